"""The structure of the tree: who may include whom, and the rules that every file keeps (scripts/layers)."""
import os
import subprocess

import pytest

from conftest import TOP

HEADER = "/* What this header is for, and that any thread may call it whenever it likes. */\n"


def layers(tree):
    r = subprocess.run([os.path.join(TOP, "scripts", "layers"), str(tree)], capture_output=True, text=True, timeout=60)
    assert not r.stderr
    return r.returncode, r.stdout


def test_this_tree():
    assert layers(TOP) == (0, "")


@pytest.fixture
def tree(tmp_path):
    """A sound tree of two files, to put something into: `tree(path, text)` is what is said of it then."""
    def put(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    put("src/mem/mem.c", '/* Memory. */\n#include "base/err.h"\n#include "mem/impl.h"\n\nint f(int a, int b);\n')
    put("src/mem/impl.h", HEADER + "#ifndef VIREO_MEM_IMPL_H\n#define VIREO_MEM_IMPL_H\n#endif\n")
    put("src/mem/meson.build", "sources += files('mem.c')\n")
    assert layers(tmp_path) == (0, "")

    def spoil(path, text, build=None):
        put(path, text)
        if build:
            put(os.path.join(os.path.dirname(path), "meson.build"), f"sources += files('mem.c', '{build}')\n")
        status, said = layers(tmp_path)
        assert status == 1 and said.count("\n") == 1, said
        return said

    return spoil


@pytest.mark.parametrize("path,include,says", [
    ("src/mem/a.c", "vm/vm.h", "mem may know only: base"),
    ("src/block/a.c", "mem/mem.h", "block may know only: base"),
    ("src/cpu/x86/a.c", "dev/pc.h", "cpu may know only: base clock irq mem"),
    ("src/base/a.c", "clock/clock.h", "base may know only: nothing"),
    ("src/vm/a.c", "cli/options.h", "vm may know only"),
    ("src/dev/a.c", "bus/pci_impl.h", "which is not for it"),
    ("src/irq/a.c", "irq/x86/impl.h", "which is not for it"),
    ("src/virtio/rng.c", "virtio/transport.h", "which is not for it"),
    ("src/virtio/mmio.c", "virtio/devices.h", "which is not for it"),
    ("src/attic/a.c", "base/err.h", "src/attic/ is no room"),
])
def test_arrows(tree, path, include, says):
    assert says in tree(path, f'/* A file. */\n#include "{include}"\n', os.path.basename(path))


@pytest.mark.parametrize("path,text,says", [
    ("src/mem/mem.c", "int x;\n", "begins with a comment"),
    ("src/mem/mem.c", "/* Long. */\n" + "int x;\n" * 800, "801 lines"),
    ("src/mem/mem.c", "/* Wide. */\nint f(int a, int b, int c, int d,\n      int e, int g, int h)\n{\n}\n", "f() takes 7"),
    ("src/mem/mem.c", "/* Wide. */\nint f(int (*a)(int, int), int b, int c, int d, int e, int g, int h);\n", "f() takes 7"),
    ("src/mem/mem.c", "/* Aborts. */\n#include <assert.h>\n", "assert()"),
    ("src/mem/mem.c", "/* Serves. */\nint c = accept4(fd, NULL, NULL, 0);\n", "base/accept.h"),
    ("src/mem/dead.c", "/* Not built. */\n", "no meson.build names it"),
    ("src/mem/a.h", "/* Short. */\n#ifndef VIREO_MEM_A_H\n#define VIREO_MEM_A_H\n#endif\n", "what it is for"),
    ("src/mem/a.h", HEADER + "#ifndef MEM_A\n#define MEM_A\n#endif\n", "include guard"),
])
def test_files(tree, path, text, says):
    assert says in tree(path, text)
