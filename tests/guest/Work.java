import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;

/**
 * Fixed work for test_runtimes.py, which compares what is printed: methods that get hot, call sites whose types change so
 * that compiled code is given up, lambdas, exceptions, locks, strings, garbage.
 */
public class Work {
	interface Shape {
		long area(long n);
	}

	static final class Square implements Shape {
		public long area(long n) {
			return n * n;
		}
	}

	static final class Ring implements Shape {
		public long area(long n) {
			return 3 * (n * n - 1);
		}
	}

	static final class Odd implements Shape {
		public long area(long n) {
			return Long.toString(n).length();
		}
	}

	static long shapes(int rounds) {
		Shape[][] sets = { { new Square(), new Square() }, { new Square(), new Ring() },
			{ new Square(), new Ring(), new Odd() } };
		long sum = 0;
		for (Shape[] set : sets)
			for (int n = 0; n < rounds; n++)
				sum = (sum * 31 + set[n % set.length].area(n)) % 1000003;
		return sum;
	}

	static long lambdas(int rounds) {
		List<IntUnaryOperator> all = new ArrayList<>();
		for (int n = 0; n < 64; n++) {
			int k = n;
			all.add(n % 2 == 0 ? x -> x * k + 1 : x -> x ^ k);
		}
		int v = 1;
		for (int n = 0; n < rounds; n++)
			v = all.get(n & 63).applyAsInt(v);
		return v;
	}

	static long exceptions(int rounds) {
		int[] a = new int[100];
		long sum = 0;
		for (int n = 0; n < rounds; n++) {
			try {
				a[n % 103] += n;
			} catch (ArrayIndexOutOfBoundsException e) {
				sum += n;
			}
			try {
				sum += ((Object) (n % 7 == 0 ? null : a)).hashCode() & 0;
			} catch (NullPointerException e) {
				sum += 2;
			}
			try {
				sum += 100 / (n % 11);
			} catch (ArithmeticException e) {
				sum += 3;
			}
		}
		return sum;
	}

	static long strings(int rounds) {
		Map<String, Integer> m = new HashMap<>();
		for (int n = 0; n < rounds; n++)
			m.merge("k" + (n * 7919 % 1009), 1, Integer::sum);
		StringBuilder s = new StringBuilder();
		m.entrySet().stream().sorted(Map.Entry.comparingByKey()).forEach(e -> s.append(e.getKey()).append(e.getValue()));
		return s.toString().hashCode();
	}

	static double floats(int n) {
		double[] a = new double[n], b = new double[n];
		for (int i = 0; i < n; i++) {
			a[i] = Math.sin(i) / 3;
			b[i] = Math.sqrt(i + 1);
		}
		double sum = 0;
		for (int r = 0; r < 50; r++)
			for (int i = 0; i < n; i++)
				sum += a[i] * b[n - 1 - i] + (float) sum * 1e-9f;
		return sum;
	}

	static long counter;

	static synchronized void count(int n) {
		counter += n;
	}

	static long threads() throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(4);
		List<Future<Long>> results = new ArrayList<>();
		for (int t = 0; t < 8; t++) {
			int k = t;
			results.add(pool.submit(() -> {
				long sum = 0;
				for (int n = 0; n < 60000; n++) {
					count(n & 3);
					sum += new Integer[] { n, k }[n & 1];
				}
				return sum + shapes(20000 + k);
			}));
		}
		long sum = 0;
		for (Future<Long> f : results)
			sum = sum * 31 + f.get();
		pool.shutdown();
		return sum + counter;
	}

	public static void main(String[] args) throws Exception {
		System.out.println("shapes " + shapes(400000));
		System.out.println("lambdas " + lambdas(2000000));
		System.out.println("exceptions " + exceptions(200000));
		System.out.println("strings " + strings(200000));
		System.out.println("floats " + floats(20000));
		System.out.println("threads " + threads());
		System.out.println("primes " + IntStream.range(2, 60000).parallel()
			.filter(n -> IntStream.rangeClosed(2, (int) Math.sqrt(n)).noneMatch(k -> n % k == 0)).count());
		System.out.println("END");
	}
}
