"""Guests of a few bytes: flat multiboot kernels that are there in a moment."""
import struct

POWER_OFF = b"\x66\xb8\x00\x34\x66\xba\x04\x06\x66\xef\xeb\xfe"  # mov ax, 3400h; mov dx, 604h; out dx, ax; jmp $

# Print '>', then send back what the first serial port receives.
ECHO = (b"\x66\xba\xf8\x03\xb0\x3e\xee"            # mov dx, 3f8h; mov al, '>'; out dx, al
        b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7"      # again: mov dx, 3fdh; in al, dx; test al, 1; jz again
        b"\x66\xba\xf8\x03\xec\xee\xeb\xef")         # mov dx, 3f8h; in al, dx; out dx, al; jmp again
HALT = b"\xf4\xeb\xfd"                               # hlt; jmp to it
RESET = b"\xb0\x06\x66\xba\xf9\x0c\xee\xeb\xfe"      # mov al, 6; mov dx, cf9h; out dx, al; jmp $
TRIPLE_FAULT = b"\x0f\x01\x1d\x00\x00\x20\x00\xcc"   # lidt [200000h], which is zero; int3
NOWHERE = b"\xb8\x00\x00\x00\xd0\xff\xe0"            # mov eax, d0000000h; jmp eax

# Power off when the power button is pressed: again: mov dx, 600h; in ax, dx; test ah, 1; jz again
BUTTON = b"\x66\xba\x00\x06\x66\xed\xf6\xc4\x01\x74\xf5" + POWER_OFF

PUT_4 = (b"\x66\xba\xf8\x03\xb9\x04\x00\x00\x00"     # mov dx, 3f8h; mov ecx, 4
         b"\xee\xc1\xe8\x08\xe2\xfa\xc3")              # again: out dx, al; shr eax, 8; loop again; ret
# The first 4 bytes of the processor's vendor, and its signature (CPUID 1, EAX).
CPUID = (b"\xbc\x00\x00\x20\x00\x31\xc0\x0f\xa2\x89\xd8"  # mov esp, 200000h; xor eax, eax; cpuid; mov eax, ebx
         b"\xe8\x1d\x00\x00\x00\xb8\x01\x00\x00\x00\x0f\xa2"  # call put4; mov eax, 1; cpuid
         b"\xe8\x11\x00\x00\x00" + POWER_OFF.ljust(17, b"\x90") + PUT_4)
# The year of the real-time clock, in BCD: mov al, 9; out 70h, al; in al, 71h; mov dx, 3f8h; out dx, al
YEAR = b"\xb0\x09\xe6\x70\xe4\x71\x66\xba\xf8\x03\xee" + POWER_OFF


# The same, and count what is received in a register: '0' to '9' come in turns.
COUNT = (b"\x31\xc9"                                     # xor ecx, ecx
         b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7"      # again: mov dx, 3fdh; in al, dx; test al, 1; jz again
         b"\x66\xba\xf8\x03\xec\x8d\x41\x30\xee"      # mov dx, 3f8h; in al, dx; lea eax, [ecx + '0']; out dx, al
         b"\x41\x83\xf9\x0a\x75\xe8\x31\xc9\xeb\xe4")  # inc ecx; cmp ecx, 10; jne again; xor ecx, ecx; jmp again


def printer(count):
    """Print `count` characters and power off."""
    return (b"\xb9" + struct.pack("<I", count) +         # mov ecx, count
            b"\x66\xba\xfd\x03\xec\xa8\x20\x74\xf7"      # again: mov dx, 3fdh; in al, dx; test al, 20h; jz again
            b"\x66\xba\xf8\x03\x88\xc8\x24\x3f\x04\x30"  # mov dx, 3f8h; mov al, cl; and al, 3fh; add al, '0'
            b"\xee\x49\x75\xe9" +                        # out dx, al; dec ecx; jnz again
            POWER_OFF)


def printed(count):
    return "".join(chr((n & 0x3f) + 0x30) for n in range(count, 0, -1))


def kernel(directory, code, name="tiny"):
    """Write the kernel; its path."""
    path = directory / name
    header = struct.pack("<8I", 0x1badb002, 0x10000, -(0x1badb002 + 0x10000) & 0xffffffff, 0x100000, 0x100000,
                         0x100200, 0x100200, 0x100020)
    path.write_bytes((header + code).ljust(0x200, b"\0"))
    return str(path)
