/**
 * Burns CPU time for some seconds in work, turn, burn. The second argument says
 * how turn calls burn: "plain", in a "lambda", or by a "native" method, whose library is
 * the third. Of "plain" the third is the number of nested calls of nest before work.
 */
public class Burn {
    private static long sink = 1;

    static native void nativeEach(Runnable task);

    static void burn() {
        for (int i = 0; i < 20000; i++) {
            sink = sink * 31 + (i ^ (sink >> 3));
        }
    }

    static void turn(String how) {
        switch (how) {
            case "lambda" -> java.util.stream.IntStream.range(0, 10).forEach(i -> burn());
            case "native" -> nativeEach(Burn::burn);
            default -> {
                for (int i = 0; i < 10; i++) {
                    burn();
                }
            }
        }
    }

    static void work(long end, String how) {
        while (System.nanoTime() < end) {
            turn(how);
        }
    }

    static int nest(int depth, long end, String how) {
        if (depth == 0) {
            work(end, how);
            return 0;
        }
        return nest(depth - 1, end, how) + 1;
    }

    public static void main(String[] args) throws Exception {
        if (args[1].equals("native")) {
            System.load(args[2]);
        }
        long end = System.nanoTime() + (long) (1e9 * Double.parseDouble(args[0]));
        int depth = args[1].equals("plain") && args.length > 2 ? Integer.parseInt(args[2]) : -1;
        Thread t = new Thread(() -> {
            if (depth >= 0) {
                nest(depth, end, args[1]);
            } else {
                work(end, args[1]);
            }
        }, "burner");
        t.start();
        t.join();
    }
}
