"""Named bytes somewhere: how they are put down so that they stay, and who may do so just now.

Nothing in here knows what the bytes mean. `local` writes files on this machine so that a name is
only ever seen with all of its bytes behind it, even after a crash; `lock` keeps two processes from
doing at once what only one may do, and tells the files of a dead process from those of a live one.
"""
