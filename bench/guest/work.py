"""Fixed work for Python: what is printed is the checksum. The same with each version: no hashes of strings, no set orders."""
import json
import re


class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

    def insert(self, key):
        node = self
        while True:
            side = "left" if key < node.key else "right"
            below = getattr(node, side)
            if below is None:
                setattr(node, side, Node(key))
                return
            node = below

    def walk(self):
        if self.left:
            yield from self.left.walk()
        yield self.key
        if self.right:
            yield from self.right.walk()


def numbers(count, state=12345):
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7fffffff
        yield state >> 8


def trees(count):
    root = Node(1 << 22)
    for n in numbers(count):
        root.insert(n)
    return sum(i * k for i, k in enumerate(root.walk())) % 1000003


def words(count):
    counts = {}
    for n in numbers(count):
        word = f"w{n % 1009:x}"
        counts[word] = counts.get(word, 0) + 1
    text = json.dumps({"counts": sorted(counts.items())})
    again = json.loads(text)["counts"]
    found = re.findall(r"w([0-9a-f]+)\", (\d+)", text)
    return len(again), sum(int(a, 16) * int(b) for a, b in found)


def floats(count):
    x, total = 0.5, 0.0
    for i in range(count):
        x = 3.75 * x * (1.0 - x)
        total += x / (1 + i % 7)
    return f"{total:.9f}"


def queens(n, row=0, columns=0, up=0, down=0):
    if row == n:
        return 1
    free, count = ~(columns | up | down) & ((1 << n) - 1), 0
    while free:
        bit = free & -free
        free ^= bit
        count += queens(n, row + 1, columns | bit, (up | bit) << 1, (down | bit) >> 1)
    return count


print(trees(40000), words(150000), floats(400000), queens(8), pow(3, 2**15 + 1, 10**400 + 7) % 10**9,
      sum(len(str(7**n)) for n in range(0, 3000, 50)))
