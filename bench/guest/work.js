// Fixed work for a JavaScript engine: what is printed is the checksum. Hot functions, types that change (so that compiled code
// is given up), closures, typed arrays, strings, regular expressions, and functions that are made of text while it runs.
"use strict";

let seed = 42;
function random() {
	seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
	return seed >> 8;
}

class Shape { constructor(n) { this.n = n; } area() { return this.n; } }
class Square extends Shape { area() { return this.n * this.n; } }
class Ring extends Shape { area() { return 3 * (this.n * this.n - 1); } }
class Odd extends Shape { constructor(n) { super(n); this.extra = "x" + n; } area() { return this.extra.length; } }

function shapes(rounds) {
	const kinds = [Square, Ring, Odd, Shape], all = [];
	for (let i = 0; i < 1000; i++) all.push(new kinds[i < 500 ? 0 : random() & 3](i % 50));
	let sum = 0;
	for (let r = 0; r < rounds; r++) for (const s of all) sum = (sum + s.area()) % 1000003;
	return sum;
}

function matrices(n, rounds) {
	const a = new Float64Array(n * n), b = new Float64Array(n * n), c = new Float64Array(n * n);
	for (let i = 0; i < n * n; i++) { a[i] = i % 13; b[i] = i % 7; }
	for (let r = 0; r < rounds; r++)
		for (let i = 0; i < n; i++)
			for (let j = 0; j < n; j++) {
				let s = 0;
				for (let k = 0; k < n; k++) s += a[i * n + k] * b[k * n + j];
				c[i * n + j] = s + r;
			}
	return c.reduce((x, y) => (x + y) % 1000003, 0);
}

function objects(count) {
	const map = new Map(), list = [];
	for (let i = 0; i < count; i++) {
		const key = "k" + random() % 5000;
		map.set(key, (map.get(key) || 0) + 1);
		list.push({ key, i, next: list.length ? list[random() % list.length] : null });
	}
	list.sort((x, y) => (x.key < y.key ? -1 : x.key > y.key ? 1 : x.i - y.i));
	let sum = map.size;
	for (const o of list) sum = (sum * 31 + o.i + (o.next ? o.next.i : 0)) % 1000003;
	return sum;
}

function made(count) {
	let sum = 0;
	for (let i = 0; i < count; i++) {
		const f = new Function("x", `let s = ${i}; for (let k = 0; k < 400; k++) s = (s * ${i % 7 + 2} + x + k) % 65521; return s;`);
		for (let r = 0; r < 40; r++) sum = (sum + f(r)) % 1000003;
		if (i % 50 === 0) sum += String(f("7")).length;
	}
	return sum;
}

function strings(count) {
	let text = "", hits = 0;
	for (let i = 0; i < count; i++) text += `item-${random() % 1000}:${(i * 7) % 100};`;
	for (const m of text.matchAll(/item-(\d+)[02468]:(\d)\2;/g)) hits = (hits + Number(m[1])) % 1000003;
	return hits + JSON.stringify(JSON.parse(`{"t":${JSON.stringify(text)}}`)).length;
}

console.log(shapes(1000), matrices(120, 4), objects(20000), made(150), strings(15000));
