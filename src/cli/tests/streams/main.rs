//! `flexcast send` to `flexcast recv` over loopback, in a namespace of the test's own:
//! bytes, counts, losses, ends, exit codes.

mod gateways;
mod room;
mod wait_for;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_testbed::World;

use room::{assert_same, await_that, flexcast, number, Room};

/// A receiver that writes to a file until the stream's end, and says what changes.
fn receiver(room: &Room, name: &str, channel: &str, more: &[&str]) -> room::Running {
    let path = room.path(name);
    let path = path.to_str().unwrap();
    let arguments = ["recv", "-v", "--until-end", channel, "-o", path];
    room.start(name, &[&arguments[..], more].concat())
}

#[test]
fn a_file_arrives_whole_at_everybody_over_both_families() {
    let test = "a_file_arrives_whole_at_everybody_over_both_families";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let (file, film) = room.film(1_000_001);
    let file = file.to_str().unwrap();
    let datagrams = film.len().div_ceil(1316);
    for (own, asked) in [
        ("self#7", "127.0.0.1#7"),
        ("127.0.0.1#8", "self#8"),
        ("[::1]#9", "::1#9"),
        ("self#10", "[::1]#10"),
    ] {
        // One before the sender, two after it.
        let first = receiver(&room, "first", asked, &[]);
        first.await_words("asking");
        let arguments = ["send", own, file, "--rate", "80M", "--wait", "3"];
        let sender = room.start("send", &arguments);
        let second = receiver(&room, "second", asked, &[]);
        second.await_words("pending");
        let third = receiver(&room, "third", asked, &[]);
        let said = sender.end_well();
        assert_eq!(number(&said, " datagrams"), datagrams, "{said}");
        assert_eq!(number(&said, " receivers at the end"), 3, "{said}");
        for (name, receiver) in [("first", first), ("second", second), ("third", third)] {
            let said = receiver.end_well();
            let expected = format!(
                "{datagrams} datagrams, {} bytes, 0 lost, 0 duplicates",
                film.len()
            );
            assert!(said.contains(&expected), "{own} {name}: {said}");
            assert_same(&room.path(name), &film);
        }
    }
}

#[test]
fn a_group_means_the_same_channel_on_both_sides() {
    let test = "a_group_means_the_same_channel_on_both_sides";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let (file, film) = room.film(50_000);
    for (map, group) in [
        ("239.1.0.0/16=127.0.0.1", "239.1.1.4:5000"),
        ("[ff3e::8000:0]/96=[::1]", "[ff3e::8000:1]:5000"),
    ] {
        let receiver = receiver(&room, "recv", group, &["--map", map]);
        let arguments = ["send", "--map", map, group, file.to_str().unwrap(), "-w1"];
        room.start("send", &arguments).end_well();
        receiver.end_well();
        assert_same(&room.path("recv"), &film);
    }
}

#[test]
fn a_new_stream_is_granted_before_its_first_datagram() {
    let test = "a_new_stream_is_granted_before_its_first_datagram";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let (file, film) = room.film(10_000);
    let file = file.to_str().unwrap();
    // Strict receivers take nothing without its token, as relays do. Half of the
    // streams lacked their first datagram where grants and datagrams raced.
    let (map, group) = ("239.1.1.4:5000=127.0.0.1,strict", "239.1.1.4:5000");
    for _ in 0..8 {
        let receiver = receiver(&room, "recv", group, &["--map", map]);
        let arguments = ["send", "--map", map, group, file, "-w1"];
        room.start("send", &arguments).end_well();
        receiver.end_well();
        assert_same(&room.path("recv"), &film);
    }
}

#[test]
fn what_the_network_loses_is_counted_exactly() {
    let test = "what_the_network_loses_is_counted_exactly";
    let Some(_world) = World::enter(test) else {
        return;
    };
    // Of the stream alone (control is shorter), neither the first nor the last one.
    let rules = "add table inet loss
        add counter inet loss lost
        add chain inet loss in { type filter hook input priority 0; }
        add rule inet loss in udp sport 7450 udp length > 900 numgen inc mod 10 == 5 \
            counter name lost drop";
    let mut nft = Command::new("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin
        .take()
        .unwrap()
        .write_all(rules.as_bytes())
        .unwrap();
    assert!(nft.wait().unwrap().success());

    let room = Room::new(test);
    let (file, film) = room.film(1001 * 1000 + 950);
    let receiver = receiver(&room, "recv", "127.0.0.1#7", &[]);
    let file = file.to_str().unwrap();
    // One datagram a packet: what is segmented on loopback is lost as a whole.
    let paced = ["--rate", "2000pps", "--size", "1000"];
    let arguments = [&["send", "self#7", file, "-w1"][..], &paced].concat();
    room.start("send", &arguments).end_well();
    let said = receiver.end_well();
    let list = Command::new("nft")
        .args(["list", "counter", "inet", "loss", "lost"])
        .output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    let packets = list.split("packets ").nth(1).unwrap();
    let packets: usize = packets.split(' ').next().unwrap().parse().unwrap();
    assert!(packets >= 50, "{list}");
    assert_eq!(number(&said, " duplicates"), 0, "{said}");
    let (got, lost) = (number(&said, " datagrams"), number(&said, " lost"));
    assert_eq!(got + lost, film.len().div_ceil(1000), "{said}");
    let written = std::fs::metadata(room.path("recv")).unwrap().len();
    assert_eq!(number(&said, " bytes,") as u64, written, "{said}");
    assert!(lost >= packets, "{lost} lost, {packets} packets dropped");
}

#[test]
fn the_rate_is_kept() {
    let test = "the_rate_is_kept";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let (file, film) = room.film(1316 * 500);
    let file = file.to_str().unwrap();
    // 500 datagrams: 0.5 s each way.
    for rate in ["1000pps", "10.528M"] {
        let receiver = receiver(&room, "recv", "127.0.0.1#7", &[]);
        receiver.await_words("asking");
        let sender = room.start("send", &["send", "self#7", file, "-w1", "-r", rate]);
        await_that("the first datagram", || {
            std::fs::metadata(room.path("recv")).is_ok_and(|data| data.len() > 0)
        });
        let begun = Instant::now();
        receiver.end_well();
        let took = begun.elapsed();
        let due = Duration::from_millis(480)..Duration::from_millis(900);
        assert!(due.contains(&took), "{rate}: {took:?}");
        sender.end_well();
        assert_same(&room.path("recv"), &film);
    }
}

#[test]
fn standard_input_is_sent_as_it_comes() {
    let test = "standard_input_is_sent_as_it_comes";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let receiver = receiver(&room, "recv", "127.0.0.1#7", &[]);
    let mut command = flexcast();
    command.args(["send", "self#7", "-w1", "-s", "4", "-q"]);
    let mut sender = room.run("send", command.stdin(Stdio::piped()));
    let mut input = sender.child.stdin.take().unwrap();
    for piece in ["abc", "defgh", "ij"] {
        input.write_all(piece.as_bytes()).unwrap();
    }
    await_that("whole datagrams are sent at once", || {
        std::fs::read(room.path("recv")).is_ok_and(|got| got == b"abcdefgh")
    });
    drop(input);
    assert_eq!(sender.end_well(), "", "quiet");
    let said = receiver.end_well();
    assert!(said.contains("3 datagrams, 10 bytes, 0 lost"), "{said}");
    assert_same(&room.path("recv"), b"abcdefghij");
}

#[test]
fn an_interrupted_sender_ends_its_stream() {
    let test = "an_interrupted_sender_ends_its_stream";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let receiver = receiver(&room, "recv", "127.0.0.1#7", &[]);
    let arguments = ["send", "self#7", "/dev/zero", "-r", "100pps", "-w1"];
    let sender = room.start("send", &arguments);
    receiver.await_words("granted");
    sender.signal("TERM");
    let (status, said) = sender.end();
    assert_eq!(status.code(), Some(128 + 15), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    let said = receiver.end_well();
    assert!(said.contains("end of stream"), "{said}");
}

#[test]
fn a_receiver_ends_as_it_was_told() {
    let test = "a_receiver_ends_as_it_was_told";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let recv = |name: &str, more: &[&str]| {
        let arguments = [&["recv", "-v", "127.0.0.1#7"][..], more].concat();
        let mut command = flexcast();
        let command = command.args(arguments).stdin(Stdio::null());
        room.run(name, command.stdout(Stdio::null()))
    };
    // Nobody sends: --timeout says so, with code 1.
    let (status, said) = recv("timeout", &["--timeout", "0.3"]).end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("no datagram for 0.3 s"), "{said}");
    assert!(said.contains("nobody answers at 127.0.0.1:7450"), "{said}");

    let mut command = flexcast();
    let command = command.args(["recv", "10.9.9.9#7", "-t", "0.3"]);
    let (status, said) = room.run("unsent", command).end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cannot ask: ENETUNREACH"), "{said}");

    let counted = recv("count", &["--count", "5"]);
    let (term, int) = (recv("term", &[]), recv("int", &[]));
    let mut command = flexcast();
    let command = command.args(["recv", "127.0.0.1#7", "--port", "7450"]);
    let mut piped = room.run("pipe", command.stdout(Stdio::piped()));
    let arguments = ["send", "self#7", "/dev/zero", "-r", "200pps", "-w4"];
    let sender = room.start("send", &arguments);

    let said = counted.end_well();
    assert!(said.contains("5 datagrams, 6580 bytes"), "{said}");
    for (receiver, signal) in [(term, "TERM"), (int, "INT")] {
        receiver.await_words("granted");
        receiver.signal(signal);
        let said = receiver.end_well();
        assert!(said.contains(" lost, "), "{said}");
    }
    // A reader that has enough.
    let mut output = piped.child.stdout.take().unwrap();
    output.read_exact(&mut [0; 1316]).unwrap();
    drop(output);
    let said = piped.end_well();
    assert!(!said.contains("ipe"), "ends quietly: {said}");
    sender.signal("INT");
    assert_eq!(sender.end().0.code(), Some(130));
}

#[test]
fn a_sender_that_waited_long_enough_begins_anyway() {
    let test = "a_sender_that_waited_long_enough_begins_anyway";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new(test);
    let (file, _) = room.film(10_000);
    let file = file.to_str().unwrap();
    let begun = Instant::now();
    let sender = room.start("send", &["send", "self#7", file, "--wait", "2:0.4"]);
    let said = sender.end_well();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(
        said.contains("warning: 0 of 2 receivers of self#7"),
        "{said}"
    );
    assert!(said.contains("8 datagrams, 10000 bytes sent"), "{said}");
}

#[test]
fn a_group_with_two_senders_is_received_from_both() {
    let test = "a_group_with_two_senders_is_received_from_both";
    let Some(world) = World::enter(test) else {
        return;
    };
    let (a, b, c) = (world.host("a"), world.host("b"), world.host("c"));
    world.link((&a, "10.0.1.1/24"), (&c, "10.0.1.9/24"));
    world.link((&b, "10.0.2.1/24"), (&c, "10.0.2.9/24"));
    let room = Room::new(test);
    let on = |host: &flexcast_testbed::Host, name: &str, arguments: &[&str]| {
        let mut command = host.command(env!("CARGO_BIN_EXE_flexcast"));
        command.args(arguments).stdin(Stdio::null());
        room.run(name, &mut command)
    };
    let (map, group) = ("239.1.0.0/16=10.0.1.1+10.0.2.1", "239.1.1.4:5000");
    let output = room.path("got");
    let output = output.to_str().unwrap();
    let recv = ["recv", "-v", "-e", "-m", map, group, "-o", output];
    let receiver = on(&c, "recv", &recv);
    for (host, byte) in [(&a, b'a'), (&b, b'b')] {
        let file = room.path("part");
        std::fs::write(&file, vec![byte; 5000]).unwrap();
        let send = ["send", "-m", map, group, file.to_str().unwrap(), "-w1"];
        on(host, "send", &send).end_well();
    }
    let said = receiver.end_well();
    let expected = "8 datagrams, 10000 bytes, 0 lost, 0 duplicates";
    assert!(said.contains(expected), "{said}");
    assert_same(&room.path("got"), &[[b'a'; 5000], [b'b'; 5000]].concat());
    // The third host is no sender of it.
    let (status, said) = on(&c, "send", &["send", "-m", map, group, "/dev/null"]).end();
    assert_eq!(status.code(), Some(2), "{said}");
}
