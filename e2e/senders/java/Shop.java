import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/**
 * A program whose profile is known: a thread burns CPU time, seven parts of ten in price and three
 * in receipt, which allocates as well; another waits for the monitor that the first one holds, a
 * third is parked until its lock is free, and a fourth waits in native code for a connection that never comes.
 *
 * <p>Argument: seconds of CPU time to burn. Prints the nanoseconds that price and receipt took.
 */
public class Shop {
  private static final ThreadMXBean threads = ManagementFactory.getThreadMXBean();
  private static final Object till = new Object();
  private static final ReentrantLock drawer = new ReentrantLock();
  private static volatile Object paper; // keeps the compiler from dropping what is allocated
  private static volatile long sum = 1;
  private static volatile boolean closed;
  private static long priced, printed;

  /** Runs the work, under a label if somebody sets one. */
  static Consumer<Runnable> label = Runnable::run;

  static void price(long until) {
    long s = sum;
    while (threads.getCurrentThreadCpuTime() < until) {
      for (int i = 0; i < 100_000; i++) {
        s = s * 31 + i;
      }
    }
    sum = s;
  }

  static void receipt(long until) {
    long s = sum;
    while (threads.getCurrentThreadCpuTime() < until) {
      for (int i = 0; i < 50_000; i++) {
        s ^= i * 17L + (s >> 3);
      }
      paper = new byte[4096];
    }
    paper = new byte[1 << 20]; // too large for a thread's own part of the heap
    sum = s;
  }

  static void checkout() {
    drawer.lock();
    synchronized (till) {
      long a = threads.getCurrentThreadCpuTime();
      price(a + 21_000_000);
      long b = threads.getCurrentThreadCpuTime();
      receipt(b + 9_000_000);
      priced += b - a;
      printed += threads.getCurrentThreadCpuTime() - b;
    }
    drawer.unlock();
    LockSupport.parkNanos(2_000_000); // lets the others have them
  }

  static void work(double seconds) {
    while (threads.getCurrentThreadCpuTime() < seconds * 1e9) {
      checkout();
    }
  }

  static void queue() {
    while (!closed) {
      synchronized (till) {
        sum++;
      }
    }
  }

  static void count() {
    while (!closed) {
      drawer.lock();
      drawer.unlock();
    }
  }

  static void listen(ServerSocket door) {
    try {
      door.accept().close();
    } catch (IOException e) {
      // closed with the shop
    }
  }

  private static Thread start(String name, Runnable r) {
    Thread t = new Thread(r, name);
    t.setDaemon(true);
    t.start();
    return t;
  }

  static void open(double seconds) throws Exception {
    ServerSocket door = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
    start("queue", Shop::queue);
    start("count", Shop::count);
    start("door", () -> listen(door));
    Thread worker = start("worker", () -> label.accept(() -> work(seconds)));
    worker.join();
    closed = true;
    door.close();
    System.out.println(priced + " " + printed);
  }

  public static void main(String[] args) throws Exception {
    open(Double.parseDouble(args[0]));
  }
}
