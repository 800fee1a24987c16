//! One sender process and its requesters: joining, the stream, its end.

mod send_world;

use send_world::Link;

#[test]
fn actor() {
    send_world::act();
}

const V4: &str = "10.0.0.1#5000";
const V6: &str = "2001:db8::1#5001";

#[test]
fn a_receiver_is_granted_gets_the_stream_and_its_end() {
    let Some(link) = Link::enter("a_receiver_is_granted_gets_the_stream_and_its_end") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    for channel in [V4, V6] {
        sender.ask(&format!("open {channel}"));
        // Nobody there: no error, and nothing is kept for later.
        let unheard = sender.ask(&format!("send {channel} 10 100 1"));
        assert!(unheard.starts_with("0 0 0 "), "{unheard}");
        assert_eq!(sender.ask(&format!("counters {channel}")), "10 10 0 0");
        receiver.ask(&format!("ask {channel} 1"));
    }
    receiver.until("granted", |s| s.is_granted());
    for channel in [V4, V6] {
        assert_eq!(sender.ask(&format!("wait {channel} 1 2000")), "true");
        assert_eq!(sender.ask(&format!("receivers {channel}")), "1");
        let sent = sender.ask(&format!("send {channel} 500 1316 7"));
        assert!(sent.starts_with("500 0 0 "), "{sent}");
        sender.ask(&format!("end {channel}"));
        assert_eq!(sender.ask(&format!("send {channel} 1 10 1")), "EPIPE");
    }
    for stats in receiver.until("ended", |s| s.number("ends") == 3) {
        assert_eq!(stats.number("received"), 500, "{stats:?}");
        assert_eq!(stats.number("bytes"), 500 * 1316);
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
        assert_eq!(stats.number("first"), 0);
        assert_eq!(stats.text("verdict"), "Ended");
        assert_eq!(stats.number("strange"), 0, "all came from S:FP");
        assert_eq!(stats.number("port"), 4000);
    }
    // A new stream of the same channel: another token, and the waiting one hears it.
    sender.ask(&format!("open {V4}"));
    let sent = sender.ask(&format!("send {V4} 5 100 1"));
    assert!(sent.starts_with("5 0 0 "), "{sent}");
    receiver.until_nth(0, "again", |s| s.number("received") == 505);
    receiver.until_nth(0, "granted again", |s| s.is_granted());
    assert_eq!(receiver.stats()[0].number("tokens"), 2);
}
