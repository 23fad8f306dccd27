import com.google.common.collect.Interner;
import com.google.common.collect.Interners;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.DoubleAdder;
import java.util.function.IntFunction;
import java.util.stream.Collectors;

/**
 * Guava's weak interner, in the rows of the Rust peers: see ../../../../src/rows.rs, of which this is a translation.
 *
 * <p>Values die when the garbage collector finds them, so that a row of new values doesn't pay for their end as it
 * goes, and the collector may work on other cores meanwhile. There are no handles to be cloned or dropped.
 *
 * <p>A look-up needs a string object. Where a row asks for the same live values again and again, those are made
 * beforehand; they then also remember their hash, which favours Guava. New values are cut out of the text in the
 * timed part: an object that was made before would keep them alive.
 */
public final class GuavaPeer {
    private static final int LENGTH = 30;
    private static final int LIVE = 10_000;
    private static final int HELD = 100_000;
    private static final int WINDOW = 256;
    private static final int CHOICES = 1 << 16;
    private static final double EXPONENT = 0.99;

    private static final Interner<String> TABLE = Interners.newWeakInterner();

    /** Keeps the compiler from leaving work out; each thread has a field of its own. */
    private static final class Sink {
        Object last;
    }

    private final String row;
    private final int threads;
    private final int operations;
    private final long round;
    private final CyclicBarrier barrier;
    private final DoubleAdder[] sums = {new DoubleAdder(), new DoubleAdder()};

    private GuavaPeer(String row, int threads, int operations, long round) {
        this.row = row;
        this.threads = threads;
        this.operations = operations;
        this.round = round;
        barrier = new CyclicBarrier(threads);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 1 && arguments[0].equals("version")) {
            var jar = Path.of(Interners.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            System.out.println(jar.toRealPath().getFileName() + ", Java " + Runtime.version());
            return;
        }
        String row = null;
        int threads = 1;
        int operations = 0;
        long round = 0;
        for (int place = 0; place < arguments.length; place += 2) {
            String value = arguments[place + 1];
            switch (arguments[place]) {
                case "--row" -> row = value;
                case "--threads" -> threads = Integer.parseInt(value);
                case "--operations" -> operations = Integer.parseInt(value);
                case "--round" -> round = Long.parseLong(value);
                default -> throw new IllegalArgumentException(arguments[place]);
            }
        }
        new GuavaPeer(row, threads, operations, round).run();
    }

    private void run() throws InterruptedException {
        Thread[] team = new Thread[threads];
        for (int index = 0; index < threads; index++) {
            int member = index;
            team[index] = new Thread(() -> work(member));
            // A sample without one of its threads is none.
            team[index].setUncaughtExceptionHandler((thread, error) -> {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            });
            team[index].start();
        }
        for (Thread thread : team) {
            thread.join();
        }
        double first = sums[0].sum() / threads;
        double second = sums[1].sum() / threads;
        System.out.println(row.equals("grow")
                ? "{\"grow\":" + first + ",\"hit-big\":" + second + "}"
                : "{\"" + row + "\":" + first + "}");
    }

    private void work(int member) {
        Sink sink = new Sink();
        switch (row) {
            case "hit" -> lookUp(member, sink, uniform(LIVE, operations, 1 + member));
            case "zipf" -> lookUp(member, sink, zipf(1 + member));
            case "hot" -> lookUp(member, sink, new int[1]);
            case "churn" -> churn(member, sink, 0);
            case "churn-100k" -> churn(member, sink, member == 0 ? HELD : 0);
            case "window" -> window(member, sink);
            case "grow" -> million(member, sink);
            default -> throw new IllegalArgumentException("no row " + row);
        }
    }

    /** Waits until all are here, does the work, and waits until all have done theirs. */
    private void time(int figure, int count, Runnable work) {
        await();
        long start = System.nanoTime();
        work.run();
        long took = System.nanoTime() - start;
        await();
        sums[figure].add((double) took / count);
    }

    private void await() {
        try {
            barrier.await();
        } catch (InterruptedException | BrokenBarrierException error) {
            throw new IllegalStateException(error);
        }
    }

    /** Twice as many as are timed: the compiler needs longer than caches. */
    private int warmUp() {
        return 2 * operations;
    }

    private void lookUp(int member, Sink sink, int[] choices) {
        String[] keys = keys(LIVE, 0);
        String[] held = new String[LIVE];
        for (int key = 0; key < LIVE; key++) {
            // Another object than that of the look-ups, as if read from somewhere.
            held[key] = TABLE.intern(new String(keys[key]));
        }
        lookUp(sink, choices, warmUp(), key -> keys[key]);
        time(0, operations, () -> lookUp(sink, choices, operations, key -> keys[key]));
        sink.last = held;
    }

    private static void lookUp(Sink sink, int[] choices, int times, IntFunction<String> keys) {
        for (int time = 0, choice = 0; time < times; time++) {
            sink.last = TABLE.intern(keys.apply(choices[choice]));
            choice = choice + 1 == choices.length ? 0 : choice + 1;
        }
    }

    private void churn(int member, Sink sink, int count) {
        String[] held = new String[count];
        String heldText = text(count, 0);
        for (int key = 0; key < count; key++) {
            held[key] = TABLE.intern(key(heldText, key));
        }
        String text = text(warmUp() + operations, 1 + member);
        comeAndGo(sink, text, 0, warmUp());
        time(0, operations, () -> comeAndGo(sink, text, warmUp(), warmUp() + operations));
        sink.last = held;
    }

    private static void comeAndGo(Sink sink, String text, int from, int to) {
        for (int key = from; key < to; key++) {
            sink.last = TABLE.intern(key(text, key));
        }
    }

    private void window(int member, Sink sink) {
        String text = text(LIVE, 0);
        int[] choices = zipf(1 + member);
        String[] window = new String[WINDOW];
        slide(window, text, choices, warmUp());
        time(0, operations, () -> slide(window, text, choices, operations));
        sink.last = window;
    }

    private static void slide(String[] window, String text, int[] choices, int times) {
        for (int time = 0; time < times; time++) {
            window[time % WINDOW] = TABLE.intern(key(text, choices[time % choices.length]));
        }
    }

    /** Grow, look up. What comes before the timed part of growing is other strings, for the compiler. */
    private void million(int member, Sink sink) {
        comeAndGo(sink, text(100_000, 1 + member), 0, 100_000);
        int from = (int) ((long) operations * member / threads);
        int to = (int) ((long) operations * (member + 1) / threads);
        String text = text(operations, 0);
        int[] choices = uniform(operations, operations / 2, 1 + member);
        String[] held = new String[to - from];
        time(0, held.length, () -> {
            for (int key = from; key < to; key++) {
                held[key - from] = TABLE.intern(key(text, key));
            }
        });
        lookUp(sink, choices, choices.length / 8, key -> key(text, key));
        time(1, choices.length, () -> lookUp(sink, choices, choices.length, key -> key(text, key)));
        sink.last = held;
    }

    /** A random text; each key begins one letter later. */
    private String text(int count, int stream) {
        return random(stream)
                .ints(count + LENGTH, 0, 64)
                .mapToObj(letter -> String.valueOf((char) ('0' + letter)))
                .collect(Collectors.joining());
    }

    private static String key(String text, int index) {
        return text.substring(index, index + LENGTH);
    }

    private String[] keys(int count, int stream) {
        String text = text(count, stream);
        String[] keys = new String[count];
        for (int index = 0; index < count; index++) {
            keys[index] = key(text, index);
        }
        return keys;
    }

    private Random random(int stream) {
        return new Random(round << 32 | stream);
    }

    private int[] uniform(int count, int choices, int stream) {
        return random(stream).ints(choices, 0, count).toArray();
    }

    /** By Zipf's law, from the sums of all probabilities; the ranks have nothing to do with the order of interning. */
    private int[] zipf(int stream) {
        double[] sums = new double[LIVE];
        double sum = 0;
        for (int rank = 0; rank < LIVE; rank++) {
            sum += Math.pow(rank + 1, -EXPONENT);
            sums[rank] = sum;
        }
        int[] ranked = new int[LIVE];
        Random shuffle = random(0);
        for (int rank = 0; rank < LIVE; rank++) {
            int other = shuffle.nextInt(rank + 1);
            ranked[rank] = ranked[other];
            ranked[other] = rank;
        }
        double all = sum;
        return random(stream)
                .doubles(CHOICES)
                .mapToInt(part -> {
                    int found = Arrays.binarySearch(sums, part * all);
                    return ranked[Math.min(LIVE - 1, found < 0 ? -found - 1 : found)];
                })
                .toArray();
    }
}
