"""Questions of a grid: which points are best, how many meet a filter, what is the frontier.

A question is asked of a sweep, whose points are computed as they are needed and not kept, or of a dataset. It becomes
a program like any other; its tiles pass by in cache, and what is found in them adds up.
"""
