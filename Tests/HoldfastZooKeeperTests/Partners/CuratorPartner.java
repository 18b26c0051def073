// SPDX-License-Identifier: Apache-2.0

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.retry.RetryOneTime;

/**
 * A user of Curator's locks: HOSTS PATH LOG NAME ROUNDS MODE, with MODE mutex, read, write or revoke.
 *
 * Takes the lock ROUNDS times, and writes into LOG when it enters and leaves. With 0 rounds it holds once, until the
 * file LOG.go is there. Writes NAME.done to LOG's folder at the end, with the error if there was one.
 */
public class CuratorPartner {
    public static void main(String[] arguments) throws Exception {
        String result = "ok";
        try {
            run(arguments);
        } catch (Throwable error) {
            result = error.toString();
        }
        Path log = Paths.get(arguments[2]);
        Files.write(log.resolveSibling(arguments[3] + ".done"), result.getBytes(StandardCharsets.UTF_8));
        System.exit(result.equals("ok") ? 0 : 1);
    }

    private static void run(String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
            .connectString(arguments[0]).sessionTimeoutMs(10000).connectionTimeoutMs(5000)
            .retryPolicy(new RetryOneTime(100)).build();
        client.start();
        client.blockUntilConnected();
        String path = arguments[1];
        Path log = Paths.get(arguments[2]);
        int rounds = Integer.parseInt(arguments[4]);
        if (arguments[5].equals("revoke")) {
            // What Curator's own Revoker does, for the one child there is.
            String child = client.getChildren().forPath(path).get(0);
            Revoker.attemptRevoke(client, path + "/" + child);
            client.close();
            return;
        }
        InterProcessLock lock;
        switch (arguments[5]) {
            case "read": lock = new InterProcessReadWriteLock(client, path).readLock(); break;
            case "write": lock = new InterProcessReadWriteLock(client, path).writeLock(); break;
            default: lock = new InterProcessMutex(client, path);
        }
        String who = (arguments[5].equals("read") ? "r " : "w ") + arguments[3] + "\n";
        for (int round = 0; round < Math.max(1, rounds); round++) {
            lock.acquire();
            append(log, "enter " + who);
            if (rounds == 0) {
                while (!Files.exists(Paths.get(arguments[2] + ".go"))) { Thread.sleep(10); }
            } else {
                Thread.sleep(1);
            }
            append(log, "leave " + who);
            lock.release();
        }
        client.close();
    }

    private static void append(Path log, String line) throws Exception {
        Files.write(log, line.getBytes(StandardCharsets.UTF_8), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }
}
