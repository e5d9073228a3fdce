import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;

// Waits in known functions: 14 ms and 6 ms asleep. Argument: seconds to run. Prints the
// nanoseconds that each took by the clock less those of its CPU time.
public class Wait {
    static final ThreadMXBean threads = ManagementFactory.getThreadMXBean();
    static long spentLong, spentShort;

    static void waitLong() throws InterruptedException {
        Thread.sleep(14);
    }

    static void waitShort() throws InterruptedException {
        Thread.sleep(6);
    }

    static void turn() throws InterruptedException {
        long a = System.nanoTime(), ca = threads.getCurrentThreadCpuTime();
        waitLong();
        long b = System.nanoTime(), cb = threads.getCurrentThreadCpuTime();
        waitShort();
        long c = System.nanoTime(), cc = threads.getCurrentThreadCpuTime();
        spentLong += b - a - (cb - ca);
        spentShort += c - b - (cc - cb);
    }

    static void work(double seconds) throws InterruptedException {
        for (int i = 0; i < 150; i++) { // until the sampler knows the process
            Thread.sleep(10);
        }
        long end = System.nanoTime() + (long) (seconds * 1e9);
        while (System.nanoTime() < end) {
            turn();
        }
    }

    public static void main(String[] args) throws Exception {
        Thread t = new Thread(() -> {
            try {
                work(Double.parseDouble(args[0]));
            } catch (InterruptedException e) {
                throw new RuntimeException(e);
            }
        });
        t.start();
        t.join();
        System.out.println(spentLong + " " + spentShort);
    }
}
