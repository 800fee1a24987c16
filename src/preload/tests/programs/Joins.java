/* Joins: a MulticastSocket (an IPv6 socket with IPv4 options) that writes what it hears.
 *
 *   java Joins.java GROUP PORT FILE COUNT
 *
 * Prints the sender of the first datagram; closes the socket from another thread
 * while it waits for one more, as Java programs do to end. Is not aware of any library.
 */
import java.io.FileOutputStream;
import java.net.DatagramPacket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.MulticastSocket;
import java.net.SocketException;

public class Joins {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[1]), count = Integer.parseInt(arguments[3]);
        MulticastSocket socket = new MulticastSocket(port);
        socket.setReceiveBufferSize(400000);
        InetAddress group = InetAddress.getByName(arguments[0]);
        socket.joinGroup(new InetSocketAddress(group, port), null);
        DatagramPacket packet = new DatagramPacket(new byte[65536], 65536);
        try (FileOutputStream out = new FileOutputStream(arguments[2])) {
            for (int n = 0; n < count; n++) {
                socket.receive(packet);
                out.write(packet.getData(), 0, packet.getLength());
                if (n == 0)
                    System.out.println(packet.getSocketAddress());
                packet.setLength(65536);
            }
        }
        Thread closer = new Thread(() -> {
            try {
                Thread.sleep(200);
            } catch (InterruptedException e) {
                return;
            }
            socket.close();
        });
        closer.start();
        try {
            socket.receive(packet);
            System.out.println("one more");
        } catch (SocketException closed) {
            System.out.println("closed");
        }
        closer.join();
    }
}
