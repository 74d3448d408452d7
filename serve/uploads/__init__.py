"""Files from strangers become samples here: recognised by content, bounded, parsed in processes that may die.

``Limits`` (:mod:`.limits`) say how large anything may be, ``RejectedUpload`` (:mod:`.errors`) is the one answer to what is
not taken, and ``Sandbox`` (:mod:`.sandbox`) reads. The other modules are its parts.
"""
