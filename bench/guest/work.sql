-- Fixed work for SQLite: what it answers is the checksum.
PRAGMA journal_mode = OFF;
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, town INTEGER, weight REAL);
CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO town SELECT i, 'town-' || printf('%05x', i * 7919 % 65537) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO person SELECT i, 'person ' || hex(i * 2654435761 % 4294967296), i * 31 % 500 + 1, i % 97 / 4.0 FROM n;
COMMIT;
CREATE INDEX by_name ON person (name);
CREATE INDEX by_town ON person (town, weight);
SELECT t.name, count(*), sum(p.weight), min(p.name), max(p.name) FROM person p JOIN town t ON t.id = p.town
GROUP BY t.name ORDER BY sum(p.weight) DESC, t.name LIMIT 50;
SELECT count(*) FROM person a JOIN person b ON a.town = b.town AND a.weight = b.weight AND a.id < b.id;
UPDATE person SET weight = weight * 1.5, name = name || '-' || town WHERE id % 3 = 0;
SELECT substr(name, 8, 2) AS k, count(*), avg(weight) FROM person GROUP BY k ORDER BY 2 DESC, k LIMIT 40;
SELECT count(*) FROM person WHERE name LIKE '%7%3%' OR name GLOB '*A?C*';
DELETE FROM person WHERE name < 'person 8';
SELECT count(*), sum(length(name)), sum(weight) FROM person;
SELECT name FROM person ORDER BY weight DESC, name LIMIT 20;
