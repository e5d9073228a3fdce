import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;

/**
 * Burns CPU time in two methods, in a thread: seven parts of ten in burnHeavy,
 * three in burnLight, measured by the thread's CPU clock. Argument: CPU seconds
 * to burn. Prints the CPU nanoseconds of both methods and of the process.
 */
public class Burn {
    private static final ThreadMXBean threads = ManagementFactory.getThreadMXBean();
    private static long sink = 1;
    private static long heavy, light;

    static void burnHeavy(long until) {
        while (threads.getCurrentThreadCpuTime() < until) {
            for (int i = 0; i < 200000; i++) {
                sink = sink * 31 + i;
            }
        }
    }

    static void burnLight(long until) {
        while (threads.getCurrentThreadCpuTime() < until) {
            for (int i = 0; i < 200000; i++) {
                sink = sink ^ (i * 17L + (sink >> 3));
            }
        }
    }

    static void turn() {
        long a = threads.getCurrentThreadCpuTime();
        burnHeavy(a + 14_000_000);
        long b = threads.getCurrentThreadCpuTime();
        burnLight(b + 6_000_000);
        heavy += b - a;
        light += threads.getCurrentThreadCpuTime() - b;
    }

    static void work(double goal) {
        while (threads.getCurrentThreadCpuTime() < goal * 1e9) {
            turn();
        }
    }

    public static void main(String[] args) throws Exception {
        double goal = Double.parseDouble(args[0]);
        Thread t = new Thread(() -> work(goal), "burner");
        t.start();
        t.join();
        long process = ((com.sun.management.OperatingSystemMXBean)
                ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
        System.out.println(heavy + " " + light + " " + process);
    }
}
