/** How soon after its start a program runs at half of the speed that it has in the end: as warm.js. */
import java.lang.management.ManagementFactory;
import java.util.*;
import java.util.stream.*;

public class Warm {
    interface Thing { int x(); String text(); }
    record Point(int x, int y) implements Thing { public String text() { return "point:" + x + "," + y; } }
    record Circle(int x, int r) implements Thing { public String text() { return "circle:" + x + "," + r; } }
    record Label(int x, String name) implements Thing { public String text() { return name.replace('1', '7'); } }

    static int unit(int seed) {
        List<Thing> things = new ArrayList<>();
        for (int n = 0; n < 300; n++) {
            seed = seed * 1103515245 + 12345 & 0x7fffffff;
            int x = seed % 1000;
            things.add(switch (seed % 3) {
                case 0 -> new Point(x, 2 * x);
                case 1 -> new Circle(x, x % 7);
                default -> new Label(x, "no. " + x);
            });
        }
        things.sort(Comparator.comparingInt(Thing::x).thenComparing(Thing::text));
        Map<Integer, Long> counts = things.stream().map(Thing::text)
            .collect(Collectors.groupingBy(String::length, TreeMap::new, Collectors.counting()));
        int sum = 0;
        for (var e : counts.entrySet())
            sum += e.getKey() * e.getValue().intValue();
        return sum;
    }

    static double rate(List<Double> at, double from, double to) {
        return at.stream().filter(t -> t >= from && t < to).count() / (to - from);
    }

    public static void main(String[] args) {
        long start = ManagementFactory.getRuntimeMXBean().getStartTime();
        List<Double> at = new ArrayList<>();
        int sum = 0;
        double now = 0;
        while (now < 12) {
            sum += unit(at.size());
            now = (System.currentTimeMillis() - start) / 1000.0;
            at.add(now);
        }
        double steady = rate(at, 8, 12), soon = 0;
        while (rate(at, soon, soon + 0.25) < steady / 2)
            soon += 0.05;
        System.out.printf("WARM %.2f STEADY %.0f FIRST %.2f%n", soon, steady, at.get(0));
    }
}
