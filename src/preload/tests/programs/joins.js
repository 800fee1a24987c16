/* joins: a dgram socket that writes what it hears.
 *
 *   node joins.js GROUP PORT FILE COUNT
 *
 * Prints the sender of the first datagram. Is not aware of any library.
 */
const dgram = require('dgram');
const fs = require('fs');
const [group, port, file, count] = process.argv.slice(2);
const out = fs.openSync(file, 'w');
const type = group.includes(':') ? 'udp6' : 'udp4';
const socket = dgram.createSocket({ type, reuseAddr: true });
let heard = 0;
socket.on('message', (bytes, from) => {
    if (!heard) console.log(`${from.address} ${from.port}`);
    fs.writeSync(out, bytes);
    heard += 1;
    if (heard === Number(count)) socket.close();
});
socket.bind(Number(port), () => socket.addMembership(group));
