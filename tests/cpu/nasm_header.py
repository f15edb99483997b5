"""Assemble a flat binary and write it as a C array. Usage: nasm_header.py NASM SOURCE HEADER"""
import os
import subprocess
import sys

nasm, source, header = sys.argv[1:]
name = os.path.splitext(os.path.basename(source))[0]
subprocess.run([nasm, "-f", "bin", "-o", header + ".bin", source], check=True)
with open(header + ".bin", "rb") as f:
    data = f.read()
os.unlink(header + ".bin")
with open(header, "w") as f:
    f.write(f"static const unsigned char {name}[] = {{\n")
    for at in range(0, len(data), 20):
        f.write("\t" + ", ".join(f"{b:#04x}" for b in data[at:at + 20]) + ",\n")
    f.write("};\n")
