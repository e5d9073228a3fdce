import java.util.ArrayList;
import java.util.List;

/** Allocates in two methods at 7:3, holds memory that another one allocated, and has threads wait for a lock. */
public class Alloc {
    static Object sink;
    static final List<byte[]> held = new ArrayList<>();

    static int random = 1;

    static int next() {
        random ^= random << 13;
        random ^= random >>> 17;
        random ^= random << 5;
        return random >>> 1;
    }

    /** An object of 10,000 bytes on average. */
    static void seven() {
        sink = new byte[5_000 + next() % 10_000];
    }

    static void three() {
        sink = new byte[5_000 + next() % 10_000];
    }

    /** Calls both at random, since what samples every n-th allocation may follow a pattern. */
    static void allocate() {
        for (int i = 0; i < 10; i++) {
            if (next() % 10 < 7) seven();
            else three();
        }
    }

    /** Holds 60 MB. */
    static void hold() {
        for (int i = 0; i < 3000; i++) held.add(new byte[20_000]);
    }

    static synchronized void locked() throws InterruptedException {
        Thread.sleep(30);
    }

    /** Pauses outside of the lock, or the thread that has it would take it again and again. */
    static void contend() {
        try {
            while (true) {
                locked();
                Thread.sleep(5);
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < 2; i++) {
            Thread t = new Thread(Alloc::contend);
            t.setDaemon(true);
            t.start();
        }
        System.out.println("ready");
        long begin = System.nanoTime();
        long holdAfter = Long.parseLong(args[0]) * 1_000_000_000L;
        while (true) {
            allocate();
            Thread.sleep(0, 300_000);
            if (held.isEmpty() && System.nanoTime() - begin > holdAfter) hold();
        }
    }
}
