"""The user's ``langgraph_sdk.Auth``: who is calling (``authentication``) and what they may do (``authorization``).

``handlers.py`` checks the object once, when a process starts. Importing it is ``execution/modules.py``'s part; whoever wires both is
``containers/api.py``. Nothing here imports the SDK at the top: API functions of projects without auth do not carry it.
"""
