"""The processes of a node: one receiver or more, and the worker with its timers.

``python -m node.roles receiver|receiver-2|worker --site DIR``; started and restarted by the supervisor.
"""
