import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A load program: answers searches in bursts, in one thread of its own.
 *
 * <p>scoreDocuments takes 70 % and highlight 30 % of each burst; the CPU time that each really took
 * is measured with the thread's clock and shown on /metrics.
 */
public final class Search {
  private static final double BURST = 0.1; // seconds of CPU

  private static final ThreadMXBean threads = ManagementFactory.getThreadMXBean();
  private static final com.sun.management.OperatingSystemMXBean system =
      (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  private static final Meter score = new Meter("scoreDocuments", 0.7 * BURST);
  private static final Meter marked = new Meter("highlight", 0.3 * BURST);

  private static volatile long result; // keeps the compiler from dropping the work

  public static void main(String[] args) throws IOException {
    String listen = "127.0.0.1:4054";
    double cores = 0.2;
    for (int i = 0; i + 1 < args.length; i += 2) {
      switch (args[i]) {
        case "--listen" -> listen = args[i + 1];
        case "--cores" -> cores = Double.parseDouble(args[i + 1]);
        default -> throw new IllegalArgumentException("unknown flag " + args[i]);
      }
    }
    double pause = BURST / cores - BURST;
    Thread worker = new Thread(() -> work(pause), "search");
    worker.setDaemon(true);
    worker.start();

    int colon = listen.lastIndexOf(':');
    HttpServer server =
        HttpServer.create(
            new InetSocketAddress(
                listen.substring(0, colon), Integer.parseInt(listen.substring(colon + 1))),
            0);
    server.createContext("/metrics", Search::serveMetrics);
    server.start();
  }

  private static void work(double pause) {
    try {
      while (true) {
        answerQuery();
        Thread.sleep((long) (1000 * pause * ThreadLocalRandom.current().nextDouble(0.5, 1.5)));
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private static void answerQuery() {
    long start = threads.getCurrentThreadCpuTime();
    result += scoreDocuments(score.n);
    long between = threads.getCurrentThreadCpuTime();
    result += highlight(marked.n);
    long end = threads.getCurrentThreadCpuTime();
    score.adjust((between - start) / 1e9);
    marked.adjust((end - between) / 1e9);
  }

  /** Returns the best score of n documents. */
  private static long scoreDocuments(int n) {
    long best = 0;
    for (int i = 0; i < n; i++) {
      long h = i;
      for (int term = 0; term < 16; term++) {
        h = (h ^ (h >>> 29)) * 0xbf58476d1ce4e5b9L + term;
      }
      best = Math.max(best, h);
    }
    return best;
  }

  /** Returns how many of n characters stand in a match. */
  private static long highlight(int n) {
    long state = 1;
    long inside = 0;
    for (int i = 0; i < n; i++) {
      state = state * 6364136223846793005L + 1442695040888963407L;
      if ((state >>> 33) % 7 < 3) {
        inside++;
      }
    }
    return inside;
  }

  private static void serveMetrics(HttpExchange exchange) throws IOException {
    StringBuilder text = new StringBuilder();
    text.append("# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n")
        .append("# TYPE process_cpu_seconds_total counter\n")
        .append("process_cpu_seconds_total ")
        .append(system.getProcessCpuTime() / 1e9)
        .append('\n')
        .append("# HELP load_function_cpu_seconds_total CPU time of the thread while the function was running.\n")
        .append("# TYPE load_function_cpu_seconds_total counter\n");
    for (Meter m : new Meter[] {score, marked}) {
      text.append(
          String.format(
              Locale.ROOT, "load_function_cpu_seconds_total{function=\"%s\"} %.6f%n", m.name, m.total));
    }
    byte[] body = text.toString().getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "text/plain; version=0.0.4");
    exchange.sendResponseHeaders(200, body.length);
    try (OutputStream out = exchange.getResponseBody()) {
      out.write(body);
    }
  }

  /** Fits the size of a call to about some seconds of CPU time and counts what it took. */
  private static final class Meter {
    final String name;
    final double seconds;
    int n = 1000;
    volatile double total;

    Meter(String name, double seconds) {
      this.name = name;
      this.seconds = seconds;
    }

    void adjust(double took) {
      total += took;
      double scale = seconds / Math.max(took, 1e-4);
      n = (int) Math.max(1, Math.min(1e9, n * Math.min(2, Math.max(0.5, scale))));
    }
  }
}
