"""The program that walks a script: a list of system calls, in memory of a page or two.

A process of the interpreter owns half a megabyte: to fork it costs the kernel a millisecond, to
take it apart at execve another. So the last of what comes before a payload is done by this, which
has nothing to lose. What the calls are is decided in Python (`script`); here is only what a
processor does with a list of them, in machine code.

A record of the list is nine words: a call's number, six arguments, an address where the result goes
(or 0), the record to go on with if the call failed. The next record is the next in memory. Where
the number is -1 nothing is called: (address, mask, value) says what has to stand in memory, or else
it goes on with that other record. The loop, for both of its beginnings:

    while True:
        if record.number < 0:
            result = memory[record.address] & record.mask
            fits = result == record.value
        else:
            result = system_call(record.number, *record.arguments)
            fits = not -4096 < result < 0
        if record.into: memory[record.into] = result
        record = record.next if fits else record.otherwise

`begin` is where execve enters: the descriptor that is the first byte of argv[1] is mapped, for this
process alone, at ADDRESS, and closed; the first record is there. `bear(arguments, size, record)` is
a function: clone3, whose child, on its parent's memory, walks from that record on.
"""

import os
from collections.abc import Callable

from engine.kernel import machine_code
from engine.kernel.libc import KernelError
from engine.kernel.process import clone_arguments
from engine.runtime import channel, reaper

ADDRESS = 0x10000000
NAME = "pycompose-walker"
# Where the spawner keeps it; see `reaper`.
DESCRIPTOR = reaper.DESCRIPTOR + 1

_X86_64 = """
    488b442410             begin    mov rax,[rsp+16]
    440fb600                        movzx r8d, byte ptr [rax]
    bf00000010                      mov edi,0x10000000
    be00000004                      mov esi,0x4000000
    ba03000000                      mov edx,3
    41ba12000000                    mov r10d,0x12
    4531c9                          xor r9d,r9d
    b809000000                      mov eax,9
    0f05                            syscall
    4889c3                          mov rbx,rax
    4489c7                          mov edi,r8d
    b803000000                      mov eax,3
    0f05                            syscall
    85db                            test ebx,ebx
    7911                            jns loop
    0f0b                            ud2
    b8b3010000             bear     mov eax,435
    0f05                            syscall
    85c0                            test eax,eax
    7401                            jz child
    c3                              ret
    4889d3                 child    mov rbx,rdx
    488b03                 loop     mov rax,[rbx]
    85c0                            test eax,eax
    7834                            js expect
    488b7b08                        mov rdi,[rbx+8]
    488b7310                        mov rsi,[rbx+16]
    488b5318                        mov rdx,[rbx+24]
    4c8b5320                        mov r10,[rbx+32]
    4c8b4328                        mov r8,[rbx+40]
    4c8b4b30                        mov r9,[rbx+48]
    0f05                            syscall
    488b4b38                        mov rcx,[rbx+56]
    4885c9                          test rcx,rcx
    7403                            jz known
    488901                          mov [rcx],rax
    483d00f0ffff           known    cmp rax,-4096
    7723                            ja other
    4883c348               next     add rbx,72
    ebc5                            jmp loop
    488b4308               expect   mov rax,[rbx+8]
    488b00                          mov rax,[rax]
    48234310                        and rax,[rbx+16]
    488b4b38                        mov rcx,[rbx+56]
    4885c9                          test rcx,rcx
    7403                            jz compare
    488901                          mov [rcx],rax
    483b4318               compare  cmp rax,[rbx+24]
    74dd                            je next
    488b5b40               other    mov rbx,[rbx+64]
    eba2                            jmp loop
"""

_AARCH64 = """
    e90b40f9               begin    ldr x9,[sp,#16]
    24014039                        ldrb w4,[x9]
    0000a2d2                        mov x0,#0x10000000
    0180a0d2                        mov x1,#0x4000000
    620080d2                        mov x2,#3
    430280d2                        mov x3,#0x12
    050080d2                        mov x5,#0
    c81b80d2                        mov x8,#222
    010000d4                        svc #0
    f30300aa                        mov x19,x0
    e00304aa                        mov x0,x4
    280780d2                        mov x8,#57
    010000d4                        svc #0
    f300f836                        tbz w19,#31,loop
    00000000                        udf #0
    683680d2               bear     mov x8,#435
    010000d4                        svc #0
    40000034                        cbz w0,child
    c0035fd6                        ret
    f30302aa               child    mov x19,x2
    680240f9               loop     ldr x8,[x19]
    8801f837                        tbnz w8,#31,expect
    608640a9                        ldp x0,x1,[x19,#8]
    628e41a9                        ldp x2,x3,[x19,#24]
    649642a9                        ldp x4,x5,[x19,#40]
    010000d4                        svc #0
    691e40f9                        ldr x9,[x19,#56]
    490000b4                        cbz x9,known
    200100f9                        str x0,[x9]
    1f0440b1               known    cmn x0,#1,lsl #12
    88010054                        b.hi other
    73220191               next     add x19,x19,#72
    f4ffff17                        b loop
    69aa40a9               expect   ldp x9,x10,[x19,#8]
    290140f9                        ldr x9,[x9]
    29010a8a                        and x9,x9,x10
    6b1e40f9                        ldr x11,[x19,#56]
    4b0000b4                        cbz x11,compare
    690100f9                        str x9,[x11]
    6a0e40f9               compare  ldr x10,[x19,#24]
    3f010aeb                        cmp x9,x10
    c0feff54                        b.eq next
    732240f9               other    ldr x19,[x19,#64]
    e9ffff17                        b loop
"""

_LISTINGS = {"x86_64": _X86_64, "aarch64": _AARCH64}

_CLONE_VM = 0x100
_CLONE_VFORK = 0x4000
_bear: Callable[[int, int, int], int] | None = None


def program(machine: str) -> bytes:
    """A static executable. KeyError: not for this machine."""
    return machine_code.executable(machine, _LISTINGS[machine])


def keep() -> None:
    """Put it, sealed, behind DESCRIPTOR, and `bear` into this process's memory."""
    global _bear
    machine = os.uname().machine
    channel.keep_program(program(machine), NAME, DESCRIPTOR)
    _bear = machine_code.function(DESCRIPTOR, _LISTINGS[machine], "bear")


def bear(record: int, namespaces: int = 0, *, cgroup: int) -> tuple[int, int]:
    """pid and pidfd of a child that walks from the record at this address of our memory on, in new
    `namespaces` and the group behind `cgroup` (-1: in ours). Returns when that has executed another
    program, or is no more. Raises KernelError."""
    assert _bear is not None
    arguments, size, pidfd = clone_arguments(namespaces | _CLONE_VM | _CLONE_VFORK, cgroup)
    pid = _bear(arguments, size, record)
    if pid < 0:
        raise KernelError("clone3", "", -pid)
    return pid, pidfd.value


def arguments(script: int) -> tuple[bytes, bytes]:
    """For execve, with a script in a descriptor between 1 and 255."""
    return NAME.encode(), bytes([script])
