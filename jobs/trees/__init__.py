"""What the systems on trees of images share: compiled loops, passes over a tree, drawing, export.

A *tree* here is its array ``parent`` (int32 [N]): node 0 is the root and its own parent, and every other node has a parent
of a smaller number. A pass from the last node to the first therefore meets children before their parents, and one from the
first to the last parents before their children; no recursion is ever needed.
"""
