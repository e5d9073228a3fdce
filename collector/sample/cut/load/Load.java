import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.zip.Deflater;

/** Streams, maps, text, exceptions and native code in two threads, for the seconds of its argument. */
public class Load {
  interface Shape {
    double area();
  }

  record Circle(double r) implements Shape {
    public double area() {
      return Math.PI * r * r;
    }
  }

  record Rectangle(double w, double h) implements Shape {
    public double area() {
      return w * h;
    }
  }

  static int fib(int n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
  }

  static double work(int i) throws Exception {
    List<Shape> shapes = new ArrayList<>();
    for (int k = 0; k < 1000; k++) shapes.add(k % 2 == 0 ? new Circle(k) : new Rectangle(k, i));
    double sum = shapes.stream().mapToDouble(Shape::area).filter(x -> x > 5).sorted().sum();
    Map<String, Integer> counts = new HashMap<>();
    for (int k = 0; k < 2000; k++) counts.merge("k" + (k * i % 997), 1, Integer::sum);
    sum += counts.size() + fib(18);
    sum += "the quick brown fox ".repeat(50).replaceAll("(\\w+) (\\w+)", "$2 $1").length();
    try {
      if (i % 3 == 0) throw new IllegalStateException("x" + i);
    } catch (IllegalStateException e) {
      sum += e.getStackTrace().length;
    }
    byte[] bytes = new byte[20000];
    new Random(i).nextBytes(bytes);
    sum += MessageDigest.getInstance("SHA-256").digest(bytes)[0];
    Deflater d = new Deflater();
    d.setInput(bytes);
    d.finish();
    sum += d.deflate(new byte[30000]);
    d.end();
    return sum;
  }

  public static void main(String[] args) throws Exception {
    long end = System.currentTimeMillis() + Integer.parseInt(args[0]) * 1000L;
    ExecutorService threads = Executors.newFixedThreadPool(2);
    for (int t = 0; t < 2; t++) {
      threads.submit(() -> {
        double sum = 0;
        for (int i = 0; System.currentTimeMillis() < end; i++) sum += work(i);
        return sum;
      });
    }
    threads.shutdown();
    threads.awaitTermination(100, TimeUnit.SECONDS);
  }
}
