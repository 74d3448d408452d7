"""Shifting nodes of a tree that stays the tree of shapes of its image: Algorithms 1 and 2 and function Discard.

A :data:`Live` tree is one that changes: nodes disappear into others, and those that are left keep their numbers. Algorithm 2
moves a node in steps, and at each step the neighbours that it has reached are discarded. Where such a move ends does not
depend on the steps: from altitude a to the target v it takes in its ancestors for as long as their altitudes climb from a
towards v, and from each node that it takes in, and from the one that stays, the children between that node's own altitude and
v, and theirs in turn. :func:`shift` does this at once: every node that is taken in is looked at once, and the children of the
node that stays only where one of them can be reached. ``tests/jobs/shape_tree/stepwise.py`` takes the paper's steps.

Numbers of nodes are int32; a tree has N of them.
"""  # fmt: skip

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled

__all__ = ["FAR", "NODE", "Live", "live_tree", "mean_of_neighbours", "parent_of", "shift", "there"]

#: beyond any altitude
FAR = 1 << 30

_FIELDS = ("altitude", "up", "parent", "child", "later", "children", "pixels", "lead", "roof", "floor")
#: a node of a tree that changes; its fields are
#:
#: * ``total``: sum of the children's altitudes; ``children``: how many;
#: * ``altitude``;
#: * ``up``: the node that has taken it in, perhaps by way of others; itself while it is there;
#: * ``parent``: a node that was the parent: what has taken that in is;
#: * ``child``: begin of the list of children, in no order, -1 without one; some of the list may be gone, and are dropped when
#:   it is next read; ``later``: the next in the list that the node itself is in, -1 at its end;
#: * ``pixels``: size of the proper part; ``lead``: its first pixel;
#: * ``roof``: no child above the node is lower; ``floor``: no child below it is higher.
#:
#: One record a node: a shift touches few nodes, and many fields of each.
NODE = np.dtype([("total", np.int64), *((name, np.int32) for name in _FIELDS)], align=True)
#: records [N] of :data:`NODE`
Live = NDArray[Any]


@compiled
def live_tree(live: Live, parent: NDArray[np.int32], altitude: NDArray[np.int32]) -> None:
    """Fill ``live`` with a tree that is numbered breadth first, but for ``pixels`` and ``lead``; both arrays [N]."""
    for one in range(parent.size):
        node = live[one]
        node.altitude = altitude[one]
        node.up, node.parent = one, parent[one]
        node.child, node.children, node.total = -1, 0, 0
        node.roof, node.floor = FAR, -FAR
        if one > 0:
            above = live[parent[one]]
            above.children += 1
            above.total += node.altitude
            _add(live, parent[one], one)


@compiled
def there(live: Live, one: int) -> int:
    """The node that is there for ``one``; halves the path on its way."""
    above: int = live[one].up
    while above != one:
        over: int = live[above].up
        live[one].up = over
        one = over
        above = live[one].up
    return one


@compiled
def parent_of(live: Live, one: int) -> int:
    """The parent of a node that is there."""
    above: int = live[one].parent
    if live[above].up != above:
        above = there(live, above)
        live[one].parent = above
    return above


@compiled
def _add(live: Live, above: int, one: int) -> None:
    """Put a node before the children of ``above``, whose bounds take it in; counts stay as they are."""
    parent = live[above]
    node = live[one]
    node.later = parent.child
    parent.child = one
    if node.altitude > parent.altitude:
        parent.roof = min(parent.roof, node.altitude)
    else:
        parent.floor = max(parent.floor, node.altitude)


@compiled
def _reached(altitude: int, own: int, target: int) -> bool:
    """Whether a neighbour of this altitude lies on the way of a node from its ``own`` to the target."""
    return own < altitude <= target or target <= altitude < own


@compiled
def shift(live: Live, one: int, target: int, taken: NDArray[np.int32]) -> int:
    """Move a node to an altitude (Algorithm 2); see the module's text. The root stays where it is, and what reaches it.

    Args:
        live: the tree.
        one: a node that is there, not the root.
        target: its new altitude, unless it reaches the root first.
        taken: room for the nodes that disappear, int32 [N].

    Returns:
        The node that is there for it afterwards: itself, or an ancestor that it has reached.
    """
    node = live[one]
    own = node.altitude
    if target == own:
        return one
    top, at = one, own  # the node that will be there, and the altitude that it has
    above = parent_of(live, one)
    while top != 0 and _reached(live[above].altitude, at, target):
        top, at = above, live[above].altitude
        above = parent_of(live, top)
    if top == 0:
        target = at
    if node.children == 0 and top == node.parent and at == target:  # a leaf goes into its parent: the usual case
        _leave(live, top, own)
        _join(live, top, one)
        return top
    count = 0
    if target >= live[top].roof if target > own else target <= live[top].floor:
        count = _gather(live, top, target, taken)
    link = one
    while link != top:  # the node itself, and the ancestors on the way
        taken[count] = link
        count += 1
        over = live[link].parent
        _leave(live, over, live[link].altitude)
        live[link].up = top  # now: its parent's list still has it
        link = over
    if top != 0:
        live[above].total += target - at
        live[top].altitude = target
        if target > live[above].altitude:
            live[above].roof = min(live[above].roof, target)
        else:
            live[above].floor = max(live[above].floor, target)
    if count > 0:
        _take_in(live, top, target, taken, count)
    return top


@compiled
def _leave(live: Live, above: int, altitude: int) -> None:
    """Count a child of this altitude no more."""
    live[above].children -= 1
    live[above].total -= altitude


@compiled
def _join(live: Live, top: int, gone: int) -> None:
    """Give the proper part of a node to ``top``, and let this be there for it."""
    live[gone].up = top
    live[top].pixels += live[gone].pixels
    live[top].lead = min(live[top].lead, live[gone].lead)


@compiled
def _gather(live: Live, one: int, target: int, taken: NDArray[np.int32]) -> int:
    """Take the children that lie between a node and the target out of its list, onto ``taken``; how many.

    The bounds become those that the others give it at the target.
    """
    node = live[one]
    own = node.altitude
    child = node.child
    node.child, node.roof, node.floor = -1, FAR, -FAR
    count = 0
    while child >= 0:
        other = live[child]
        after = other.later
        its = other.altitude
        if other.up == child:
            if _reached(its, own, target):
                taken[count] = child
                count += 1
                _leave(live, one, its)
            else:
                node.altitude = target
                _add(live, one, child)
        child = after
    node.altitude = own
    return count


@compiled
def _take_in(live: Live, top: int, target: int, taken: NDArray[np.int32], count: int) -> None:
    """Discard the nodes of ``taken``, and the children that they reach, into ``top``, which has the altitude ``target``."""
    while count > 0:
        count -= 1
        gone = taken[count]
        node = live[gone]
        _join(live, top, gone)
        child = node.child
        while child >= 0:
            other = live[child]
            after = other.later
            if other.up == child:
                if _reached(other.altitude, node.altitude, target):
                    taken[count] = child
                    count += 1
                else:
                    other.parent = top
                    live[top].children += 1
                    live[top].total += other.altitude
                    _add(live, top, child)
            child = after


@compiled
def mean_of_neighbours(live: Live, one: int) -> int:
    """Mean altitude of the parent and the children of a node that is not the root, rounded, half to even."""
    node = live[one]
    total = node.total + live[parent_of(live, one)].altitude
    return int(np.rint(total / (node.children + 1)))  # exact: below 2^53, and no half is near another quotient
