//! Randomness, handed in by the caller. Promises nothing about its quality:
//! tests hand in a seeded generator, the runtime hands in getrandom(2).

/// A source of random 64-bit numbers.
pub struct Entropy(Box<dyn FnMut() -> u64 + Send>);

impl Entropy {
    /// Wraps a generator.
    #[must_use]
    pub fn new(generator: impl FnMut() -> u64 + Send + 'static) -> Entropy {
        Entropy(Box::new(generator))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        (self.0)()
    }

    /// Any number but 0: for tokens, nonces and node ids.
    pub fn nonzero(&mut self) -> u64 {
        loop {
            let n = self.any();
            if n != 0 {
                return n;
            }
        }
    }

    /// A key of 16 bytes.
    pub(crate) fn key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.any().to_ne_bytes());
        key[8..].copy_from_slice(&self.any().to_ne_bytes());
        key
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}
