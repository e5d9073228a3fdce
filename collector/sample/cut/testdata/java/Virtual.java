/**
 * Burns CPU time for some seconds in work, turn, burn of virtual threads, which yield
 * after each turn if the second argument is "yield".
 */
public class Virtual {
    private static volatile long sink = 1;

    static void burn() {
        long x = sink;
        for (int i = 0; i < 20000; i++) {
            x = x * 31 + (i ^ (x >> 3));
        }
        sink = x;
    }

    static void turn() {
        for (int i = 0; i < 10; i++) {
            burn();
        }
    }

    static void work(long end, boolean yields) {
        while (System.nanoTime() < end) {
            turn();
            if (yields) {
                Thread.yield();
            }
        }
    }

    public static void main(String[] args) throws Exception {
        long end = System.nanoTime() + (long) (1e9 * Double.parseDouble(args[0]));
        Thread[] threads = new Thread[3];
        for (int i = 0; i < threads.length; i++) {
            threads[i] = Thread.ofVirtual().start(() -> work(end, args[1].equals("yield")));
        }
        for (Thread t : threads) {
            t.join();
        }
    }
}
