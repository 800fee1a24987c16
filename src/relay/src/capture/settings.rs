//! What a capture matches, and which names and numbers it takes on this host.

use super::error::CaptureError;

/// The longest table name that is taken, bytes.
const TABLE_NAME_MAX: usize = 32;

/// What to capture, and with which of the host's names and numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The destination port of requests, the same in a whole network.
    pub fp: u16,
    /// The port of the relay's transparent socket, bound to any address.
    pub listen_port: u16,
    /// The packet mark of captured packets; within `mask`. Must differ from
    /// those of other programs on the host that share its bits.
    pub mark: u32,
    /// The bits of the packet mark that are ours. More bits collide with more
    /// programs (Kubernetes has 0x4000 and 0x8000).
    pub mask: u32,
    /// The name of the nf_tables table, family inet.
    pub table_name: String,
    /// The number of a routing table used for nothing else.
    pub route_table: u32,
    /// The first four payload bytes of control: magic and version.
    pub magic_word: u32,
    /// Where in the payload the message type stands, one byte.
    pub message_offset: u32,
    /// The message types to capture; all others pass.
    pub captured_messages: Vec<u8>,
    /// Whether the kernel removes the table with the process. Without it a
    /// killed relay captures for up to two seconds longer, and its table stays
    /// until the next relay replaces it. Done without before Linux 5.12.
    pub owner: bool,
}

impl Settings {
    /// The usual names and numbers, for these messages on this port.
    pub fn new(fp: u16, magic_word: u32, message_offset: u32, captured_messages: Vec<u8>) -> Self {
        Self {
            fp,
            listen_port: fp,
            mark: 0x50,
            mask: 0xF0,
            table_name: "flexcast".to_owned(),
            route_table: u32::from(fp),
            magic_word,
            message_offset,
            captured_messages,
            owner: true,
        }
    }

    /// # Errors
    /// The first setting that cannot work.
    pub(super) fn check(&self) -> Result<(), CaptureError> {
        let name = self.table_name.as_str();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let wrong = |name, value: String, problem| {
            Err(CaptureError::Setting {
                name,
                value,
                problem,
            })
        };
        if self.fp == 0 {
            return wrong("fp", self.fp.to_string(), "a port from 1 to 65535");
        }
        if self.listen_port == 0 {
            return wrong(
                "listen_port",
                self.listen_port.to_string(),
                "a port from 1 to 65535",
            );
        }
        if self.mark == 0 || self.mark & !self.mask != 0 {
            let value = format!("{:#x}/{:#x}", self.mark, self.mask);
            return wrong(
                "mark",
                value,
                "not zero, and without bits outside of the mask",
            );
        }
        if name.is_empty() || name.len() > TABLE_NAME_MAX || !name.bytes().all(plain) {
            return wrong(
                "table_name",
                name.to_owned(),
                "1 to 32 letters, digits, '_', '-' or '.'",
            );
        }
        if matches!(self.route_table, 0 | 253..=255) {
            let value = self.route_table.to_string();
            return wrong(
                "route_table",
                value,
                "none of the host's own: 0, 253, 254, 255",
            );
        }
        if self.message_offset > 200 {
            let value = self.message_offset.to_string();
            return wrong(
                "message_offset",
                value,
                "at most 200, near the beginning of the payload",
            );
        }
        if self.captured_messages.is_empty() {
            return wrong(
                "captured_messages",
                "none".to_owned(),
                "at least one message type",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named_with_its_value() {
        let good = Settings::new(7450, 0xF1EC_A501, 4, vec![1, 5]);
        good.check().expect("the usual settings");
        let wrong = [
            (
                "fp = 0",
                Settings {
                    fp: 0,
                    ..good.clone()
                },
            ),
            (
                "listen_port = 0",
                Settings {
                    listen_port: 0,
                    ..good.clone()
                },
            ),
            (
                "mark = 0x150/0xf0",
                Settings {
                    mark: 0x150,
                    ..good.clone()
                },
            ),
            (
                "mark = 0x0/0xf0",
                Settings {
                    mark: 0,
                    ..good.clone()
                },
            ),
            (
                "table_name = a b",
                Settings {
                    table_name: "a b".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "route_table = 254",
                Settings {
                    route_table: 254,
                    ..good.clone()
                },
            ),
            (
                "message_offset = 201",
                Settings {
                    message_offset: 201,
                    ..good.clone()
                },
            ),
            (
                "captured_messages = none",
                Settings {
                    captured_messages: vec![],
                    ..good
                },
            ),
        ];
        for (words, settings) in wrong {
            let message = settings.check().expect_err(words).to_string();
            assert!(message.starts_with(words), "{message}");
        }
    }
}
