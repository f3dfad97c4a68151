"""A warm process that runs command lines: everything imported, one fork a call.

place.py    which server a command would ask, and by what name
stub.py     asks it: hands over arguments, environment, files; passes signals on; ends as it ended
server.py   waits, hands each call on to a child forked beforehand, tells its stub how it ended
child.py    waits for a call, becomes like a child of the caller, runs the program
caller.py   what that child takes from its caller, so that it is like a process started there
start.py    starts a server after a command that ran cold
programs.py what a server imports beforehand, and how it gets into its stride

A server belongs to one built-in engine: it holds a connection to it, and ends when that does.
The stub and the child agree in three steps, so that no command runs twice or not at all:

    stub  -> child   the call: a length of 8 bytes, its fields by marshal
    child -> stub    R and its pid: it is like the caller, and has not begun
    stub  -> child   G: go, with all its files by SCM_RIGHTS (a server that hangs must not hold
                     any). Only from now on the stub can't do the work itself any more
    server -> stub   T: it was stopped, stop too   E and the wait status: it has ended

What is neither (the child refuses, the server is gone) ends the connection, and the stub goes on
as if there were no server.
"""
