// How soon after its start a program runs at half of the speed that it has in the end: units of work are counted
// for twelve seconds. Objects of several shapes, closures, strings, regular expressions, sorting.
'use strict';

const kinds = [
    n => ({ kind: 'point', x: n, y: n * 2 }),
    n => ({ kind: 'circle', x: n, y: n + 1, r: n % 7 }),
    n => ({ kind: 'label', text: 'no. ' + n, x: n, y: 0 }),
];

function unit(seed) {
    const things = [];
    for (let n = 0; n < 300; n++) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        things.push(kinds[seed % 3](seed % 1000));
    }
    things.sort((a, b) => a.x - b.x || a.kind.localeCompare(b.kind));
    const texts = things.map(t => t.kind === 'label' ? t.text.replace(/(\d)(\d)/g, '$2$1') : `${t.kind}:${t.x},${t.y}`);
    const counts = new Map();
    for (const t of texts)
        counts.set(t.length, (counts.get(t.length) || 0) + 1);
    return [...counts].reduce((sum, [k, v]) => sum + k * v, 0) + JSON.parse(JSON.stringify(things)).length;
}

const at = [];
let sum = 0;
while (process.uptime() < 12) {
    sum = (sum + unit(at.length)) % 1000003;
    at.push(process.uptime());
}
const rate = (from, to) => at.filter(t => t >= from && t < to).length / (to - from);
const steady = rate(8, 12);
let soon = 0;
while (rate(soon, soon + 0.25) < steady / 2)
    soon += 0.05;
console.log(`WARM ${soon.toFixed(2)} STEADY ${steady.toFixed(0)} FIRST ${at[0].toFixed(2)}`);
