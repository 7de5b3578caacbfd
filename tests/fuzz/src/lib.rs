//! Feeds bytes from outside to everything of ours that reads such bytes.
//!
//! Owns: the list of targets, the limit of memory each may take for its input, and the corpora (`corpus/<target>`).
//! A target is a plain function: `tests/corpora.rs` replays every corpus on stable, `main.rs` hands it to libFuzzer (`make fuzz`).
//! Never: a socket to anywhere, a parser of its own.
//! Elsewhere: wrong use of the running programs (`tests/tests/bad_input.rs`, `server/tests`).

pub mod heap;
mod script;
mod targets;

use std::sync::Once;

/// Something that reads bytes from outside.
pub struct Target {
    /// Also the name of its corpus folder.
    pub name: &'static str,
    run: fn(&[u8]),
    /// Bytes of heap that may be held at once: this many, and
    heap_base: usize,
    /// this many for each byte of input.
    heap_per_byte: usize,
}

/// Longest input, bytes: no corpus file is larger.
pub const MAX_INPUT: usize = 64 * 1024;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

const fn target(name: &'static str, run: fn(&[u8]), heap_base: usize, heap_per_byte: usize) -> Target {
    Target { name, run, heap_base, heap_per_byte }
}

/// All of them. The limits are a few times what real input takes.
pub const TARGETS: [Target; 18] = [
    target("stun", targets::sfu::stun, 64 * KIB, 4),
    target("sfu_answer", targets::sfu::answer, 4 * MIB, 256),
    target("sfu_offer", targets::sfu::offer, 4 * MIB, 256),
    target("sfu_forward", targets::sfu::forward, 8 * MIB, 256),
    // A transport feedback of some bytes may speak of 65,535 packets, and the rtcp crate makes an entry for each before it refuses.
    target("interceptors", targets::sfu::interceptors, 4 * MIB, 128),
    target("packetize", targets::media::packetize, 256 * KIB, 64),
    target("depacketize", targets::media::depacketize, 256 * KIB, 64),
    target("record", targets::media::record, 4 * MIB, 256),
    target("voice", targets::media::voice, 4 * MIB, 64),
    target("journal", targets::archive::journal, MIB, 64),
    target("offer", targets::archive::offer, 8 * MIB, 512),
    target("glass_offer", targets::glass::offer, 16 * MIB, 512),
    target("glass_words", targets::glass::words, MIB, 256),
    target("glass_marks", targets::glass::marks, 80 * MIB, 256),
    target("live_json", targets::json::live, 256 * KIB, 128),
    target("http", targets::json::http, 256 * KIB, 128),
    target("log", targets::proof::log, 256 * KIB, 256),
    target("bundle", targets::proof::bundle, MIB, 128),
];

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

impl Target {
    /// Runs the target. Panics when it does, and when it held more memory than its input justifies.
    pub fn run(&self, data: &[u8]) {
        if data.len() > MAX_INPUT {
            return;
        }
        // What a program makes once and keeps is no answer to an input.
        static WARM: Once = Once::new();
        if !WARM.is_completed() {
            (self.run)(data);
            WARM.call_once(|| {});
        }
        let held = heap::most_held(|| (self.run)(data));
        let limit = self.heap_base + self.heap_per_byte * data.len();
        assert!(
            held <= limit,
            "{}: {} bytes of input took {held} bytes of memory, above {limit}",
            self.name,
            data.len()
        );
    }
}
