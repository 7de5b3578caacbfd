//! Every change of a file fails once: what must hold whichever it is. Tests try some of them, `fault_loop` all.
//!
//! Owns: what is done meanwhile and what is checked. Elsewhere: the layer that fails (`faults`), the session (`recorded`).

use lotse_payload::recording::GapWhy;
use lotse_protocol::{
    command::ServerMessage,
    id::{ItemKey, SessionId},
    item, kind,
};

use crate::{Glasses, Person, World, eventually, live::PATIENCE, recorded::recorded, secs};

/// What the disk says: broken, full.
pub const ERRORS: [i32; 2] = [libc::EIO, libc::ENOSPC];
/// A note and an upload, beside the archivist's events, change files at most this often.
pub const SERVER_WRITES: u64 = 40;
/// More than two voices change files within a fragment of 2 s.
pub const ARCHIVIST_WRITES: u64 = 100;

/// In one recorded session, for each of these numbers: the change of a file of that number from then on fails once.
pub async fn of_the_server(seed: u64, numbers: &[u64]) {
    let (mut world, faults, _) = World::with_faults(seed).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        for (n, number) in numbers.iter().enumerate() {
            faults.fail(*number, ERRORS[n % 2]);
            let mut tries = 0;
            while faults.failed() == n as u64 {
                tries += 1;
                assert!(tries < 100, "no write of the server passes through the layer");
                match call.note(format!("note {n}.{tries}")).await {
                    Ok(id) => acknowledged.push(id),
                    Err(refusal) => {
                        assert_eq!(refusal.code, "storage", "{}: {}", faults.what(), refusal.message);
                        assert!(refusal.message.contains("Try again"), "{}", refusal.message);
                    }
                }
                let sealed = item::seal(ItemKey(rand::random()), &[n as u8; 200_000]);
                if let Err(refusal) = call.technician.put_item(call.case, sealed.digest, sealed.bytes.clone()).await {
                    let code = refusal.code.as_str();
                    assert!(["storage", "broken"].contains(&code), "{}: {refusal:?}", faults.what());
                    // The same bytes are taken the next time.
                    call.technician.put_item(call.case, sealed.digest, sealed.bytes).await.unwrap();
                }
            }
            eprintln!("change {number} from then on failed once: {}", faults.what());
            acknowledged.push(call.note(format!("after {n}")).await.expect("it failed once, not twice"));
        }
        call.hear_each_other().await;
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
    })
    .await;
    assert!(world.server.is_running());
    call.ends_and_verifies(&world).await;
    call.has_all(&acknowledged).await;
    let gaps = call.kept_or_declared().await;
    assert!(gaps.is_empty(), "the archivist says its events again: {gaps:?}");
}

/// The same of the archivist.
pub async fn of_the_archivist(seed: u64, numbers: &[u64]) {
    let (mut world, _, faults) = World::with_faults(seed).await;
    let call = recorded(&world).await;
    call.talking(async {
        call.segments_after(0).await;
        for (n, number) in numbers.iter().enumerate() {
            faults.fail(*number, ERRORS[n % 2]);
            eventually("a write fails", PATIENCE, async || (faults.failed() > n as u64).then_some(())).await;
            eprintln!("change {number} from then on failed once: {}", faults.what());
            let before = call.count(kind::SEGMENT);
            call.segments_after(before).await;
        }
        call.hear_each_other().await;
    })
    .await;
    assert!(world.archivist.is_running());
    assert!(call.count(kind::RECORDING_STOPPED) > 0, "whoever is recorded sees that it stopped");
    call.ends_and_verifies(&world).await;
    let gaps = call.kept_or_declared().await;
    let short = |us: i64| us < secs(6).as_micros() as i64;
    assert!(gaps.iter().all(|g| g.why == GapWhy::Disk && short(g.to_us - g.from_us)), "{gaps:?}");
}

/// How often the server changes a file when it starts for the first time.
pub async fn of_a_first_start() -> u64 {
    let mut world = World::planned(0);
    let (faults, _) = world.lay_faults();
    world.server.start().await;
    faults.counted()
}

/// The change of this number fails at a first start: it ends with words or serves, and the second start serves.
pub async fn at_a_first_start(number: u64, errno: i32) {
    let mut world = World::planned(0);
    let (faults, _) = world.lay_faults();
    faults.fail(number, errno);
    if let Err(status) = world.server.try_start().await {
        assert_eq!(status.code(), Some(1), "{}", faults.what());
        assert!(world.server.log().contains("lotse-server: "), "{}: it says why", faults.what());
    }
    eprintln!("change {number} of a first start failed once: {}", faults.what());
    world.server.kill9();
    world.server.start().await;
    world.server.assert_no_panic();
}

/// A first start of the archivist, in which the change of a file of this number fails once: it ends with words or goes on, and the pairing
/// code counts. How often it changed a file.
pub async fn of_an_archivists_first_start(fault: Option<(u64, i32)>) -> u64 {
    let mut world = World::planned(0);
    let (_, faults) = world.lay_faults();
    world.start_server().await;
    if let Some((number, errno)) = fault {
        faults.fail(number, errno);
    }
    if let Err(status) = world.archivist.try_start().await {
        assert_eq!(status.code(), Some(1), "{}", faults.what());
        assert!(
            world.archivist.log().contains(&world.path("archivist").display().to_string()),
            "{}: it says where",
            faults.what()
        );
        world.archivist.start().await;
    }
    if let Some((number, _)) = fault {
        assert_eq!(faults.failed(), 1, "change {number} came");
        eprintln!("change {number} of an archivist's first start failed once: {}", faults.what());
    }
    world.assert_no_panic();
    faults.counted()
}

/// Glasses after glasses, each paired, in a call, in another, killed, back in it: whichever of their writes fails.
pub struct Walk {
    world: World,
    expert: Person,
}

impl Walk {
    pub async fn begin(seed: u64) -> Self {
        let world = World::seeded(seed).await;
        let expert = world.person("expert").await;
        Self { world, expert }
    }

    /// How often glasses change a file in all this.
    pub async fn without_fault(&self) -> u64 {
        self.go("whole", None).await
    }

    pub async fn with_fault(&self, number: u64, errno: i32) {
        self.go(&format!("fault-{number}-{errno}"), Some((number, errno))).await;
    }

    async fn go(&self, name: &str, fault: Option<(u64, i32)>) -> u64 {
        let code = self.world.pairing_code(name).await;
        let data = self.world.path(name).join("data");
        let control = self.world.path(&format!("{name}.faults"));
        let settings = self.world.glasses(name).with("LOTSE_SERVER_PAIRING_CODE", &code);
        let (settings, faults) = settings.with_faults(&control, std::slice::from_ref(&data));
        let mut glasses = settings.unstarted();
        if let Some((number, errno)) = fault {
            faults.fail(number, errno);
        }
        let mark = self.expert.live.mark();
        start_or_say_why(&mut glasses).await;
        let first = self.calls(mark, None).await;
        self.hang_up(&glasses, first).await;
        let mark = self.expert.live.mark();
        glasses.say("CALL").await;
        let second = self.calls(mark, Some(first)).await;
        // A write that failed was tried again by itself.
        let remembers = || std::fs::read_to_string(data.join("state.json")).unwrap_or_default();
        eventually("the call is remembered", PATIENCE, async || {
            remembers().contains(&second.to_string()).then_some(())
        })
        .await;
        eventually("the pairing is kept", PATIENCE, async || data.join("device.json").exists().then_some(())).await;
        glasses.program.kill9();
        start_or_say_why(&mut glasses).await;
        assert!(remembers().contains(&second.to_string()), "back in the same call: {}", remembers());
        self.hang_up(&glasses, second).await;
        eventually("nothing is in hand any more", PATIENCE, async || {
            (!data.join("state.json").exists() || !remembers().contains(&second.to_string())).then_some(())
        })
        .await;
        glasses.program.stop().await;
        glasses.program.assert_no_panic();
        if let Some((number, _)) = fault {
            assert_eq!(faults.failed(), 1, "change {number} came");
            eprintln!("change {number} of glasses failed once: {}", faults.what());
        }
        faults.counted()
    }

    /// A call that waits and is not `other`.
    async fn calls(&self, mark: usize, other: Option<SessionId>) -> SessionId {
        let waits = |m: &ServerMessage| match m {
            ServerMessage::Queue { calls } => {
                calls.iter().find(|c| c.waiting && Some(c.session) != other).map(|c| c.session)
            }
            _ => None,
        };
        self.expert.live.until_within("a call of the glasses", mark, secs(60), waits).await
    }

    async fn hang_up(&self, glasses: &Glasses, session: SessionId) {
        let mark = self.expert.live.mark();
        // After a start it takes a moment until they know their call again.
        eventually("the call can be ended", secs(60), async || {
            glasses.try_say("END_CALL").await.starts_with("ok").then_some(())
        })
        .await;
        glasses.say("CONFIRM").await;
        let gone = |m: &ServerMessage| match m {
            ServerMessage::Queue { calls } => calls.iter().all(|c| c.session != session).then_some(()),
            _ => None,
        };
        self.expert.live.until("the call is gone", mark, gone).await;
        eventually("the glasses know", PATIENCE, async || {
            ["home", "ended"].contains(&glasses.state()["screen"].as_str()?).then_some(())
        })
        .await;
    }
}

/// A start that fails says why, and the next one works.
async fn start_or_say_why(glasses: &mut Glasses) {
    if let Err(status) = glasses.program.try_start().await {
        assert_eq!(status.code(), Some(1));
        assert!(glasses.program.log().contains("lotse-glass: "), "it says why");
        glasses.program.start().await;
    }
}
