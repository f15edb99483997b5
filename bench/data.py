"""Makes what the programs of the bench work on; the same bytes wherever and whenever it runs."""


def numbers(state):
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        yield state >> 33


def text(size):
    """Words of an invented language, frequent ones and rare ones, in lines."""
    draw = numbers(1)
    syllables = [a + b for a in "b d f g k l m n p r s t v st tr".split() for b in "a e i o u ai en or".split()]
    words = ["".join(syllables[next(draw) % len(syllables)] for _ in range(1 + next(draw) % 4)) for _ in range(8000)]
    out, length = [], 0
    while length < size:
        n = next(draw)
        # The product of two numbers: small ones come often.
        word = words[(n & 0xfff) * (n >> 12 & 0xfff) * len(words) >> 24]
        word += ".\n" if n >> 24 & 15 == 0 else ", " if n >> 24 & 15 == 1 else f" {n % 1000} " if n % 61 == 0 else " "
        out.append(word)
        length += len(word)
    return "".join(out).encode()[:size]


FUNCTION = """
struct part{n} {{ int a[{size}]; struct part{n} *next; double weight; unsigned flags : {bits}; }};
static int helper{n}(const struct part{n} *p, int k)
{{
	int sum = {seed};
	for (int i = 0; i < {size}; i++) {{
		if ((p->a[i] ^ k) % {odd} == 0)
			sum += p->a[i] * {seed} - (sum >> {shift});
		else if (p->flags & (1u << i % {bits}))
			sum ^= k << i % 16;
	}}
	return p->next && sum % 3 ? sum + p->next->a[k & {mask}] : sum;
}}
int function{n}(struct part{n} *list, int argument, const char *text)
{{
	int result = argument, counts[16] = {{ 0 }};
	for (struct part{n} *p = list; p; p = p->next) {{
		switch ((p->a[0] + argument) & 7) {{
		case 0: result += helper{n}(p, argument); break;
		case 1: result -= {call}(0, result, text); break;
		case 2: p->weight = p->weight * {odd}.25 + result; break;
		case 3: case 4: counts[result & 15]++; break;
		default: p->a[argument & {mask}] = result * {odd}; break;
		}}
	}}
	while (*text)
		result = result * 31 + counts[*text++ & 15];
	for (int i = 0; i < 16; i++)
		for (int j = i; j < 16; j++)
			result += counts[i] * counts[j] >> (i & 3);
	return result;
}}
"""


def c_source(functions):
    draw = numbers(2)
    out = ["int function_none(void *list, int argument, const char *text) { return argument + *text; }\n"]
    for n in range(functions):
        call = f"function{next(draw) % n}" if n else "function_none"
        out.append(FUNCTION.format(n=n, call=call, seed=next(draw) % 997 + 3, odd=next(draw) % 50 * 2 + 3, mask=7,
                                   size=8 + next(draw) % 24, bits=3 + next(draw) % 20, shift=1 + next(draw) % 7))
    return "".join(out).encode()
