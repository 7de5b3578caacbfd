//! Challenges and tokens of devices, in memory: after a restart devices prove themselves again.
//!
//! Owns: open challenges (60 s, one use) and live tokens (15 minutes). Plain functions of `now`.
//! Elsewhere: which devices exist (`store::devices`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::{error::Error, refusal::Code, store::random};

pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
const CHALLENGE_LIFE: Duration = Duration::from_secs(60);
/// Challenges and tokens kept at once, each. More than that is not an honest load: refused as busy.
const MOST: usize = 20_000;

#[derive(Default)]
pub struct Tokens(Mutex<Maps>);

#[derive(Default)]
struct Maps {
    challenges: HashMap<String, (Uuid, Instant)>,
    tokens: HashMap<String, (Uuid, Instant)>,
}

impl Tokens {
    /// A nonce to sign. Given to anybody, so that it does not tell which devices exist.
    pub fn challenge(&self, device: Uuid, now: Instant) -> Result<String, Error> {
        put(|m| &mut m.challenges, &self.0, device, now + CHALLENGE_LIFE, now)
    }

    /// Was this nonce given to this device? Works once.
    pub fn take_challenge(&self, device: Uuid, nonce: &str, now: Instant) -> bool {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        maps.challenges.remove(nonce).is_some_and(|(whose, until)| whose == device && now < until)
    }

    pub fn make(&self, device: Uuid, now: Instant) -> Result<String, Error> {
        put(|m| &mut m.tokens, &self.0, device, now + TOKEN_LIFE, now)
    }

    /// The device of a live token.
    pub fn device(&self, token: &str, now: Instant) -> Option<Uuid> {
        let maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        maps.tokens.get(token).filter(|(_, until)| now < *until).map(|(device, _)| *device)
    }
}

fn put(
    which: impl Fn(&mut Maps) -> &mut HashMap<String, (Uuid, Instant)>,
    maps: &Mutex<Maps>,
    device: Uuid,
    until: Instant,
    now: Instant,
) -> Result<String, Error> {
    let word = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let mut maps = maps.lock().unwrap_or_else(PoisonError::into_inner);
    let map = which(&mut maps);
    if map.len() >= MOST {
        map.retain(|_, (_, until)| now < *until);
    }
    if map.len() >= MOST {
        return Err(Code::Busy.into());
    }
    map.insert(word.clone(), (device, until));
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_works_once_for_its_device_and_a_token_for_fifteen_minutes() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let nonce = tokens.challenge(a, now).expect("room");
        assert!(!tokens.take_challenge(b, &nonce, now));
        assert!(!tokens.take_challenge(a, &nonce, now), "a wrong try used it up");
        let nonce = tokens.challenge(a, now).expect("room");
        assert!(!tokens.take_challenge(a, &nonce, now + CHALLENGE_LIFE), "too late");
        let nonce = tokens.challenge(a, now).expect("room");
        assert!(tokens.take_challenge(a, &nonce, now));
        let token = tokens.make(a, now).expect("room");
        assert_eq!(tokens.device(&token, now + TOKEN_LIFE - Duration::from_secs(1)), Some(a));
        assert_eq!(tokens.device(&token, now + TOKEN_LIFE), None);
        assert_eq!(tokens.device("made up", now), None);
    }
}
