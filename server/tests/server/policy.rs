//! The policy table against the running server: every role × verb × relation that somebody can reach.
//!
//! For each cell somebody is put into that place for real and does the act; what the table allows must succeed, the rest must be refused
//! as forbidden (or as unknown, to who may not know of the case). `Server` is nobody's role, and `ManageAccounts` and
//! `EnrolDevices` are commands of the administrator's shell (`admin`), not requests.

use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    id::{CaseId, SessionId},
    kind,
    policy::{RELATIONS, Relation, Role, VERBS, Verb, allowed},
};
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::kit::{Author, Live, Person, World, error_of};

#[tokio::test]
async fn the_running_server_does_what_the_table_says_for_every_role_verb_and_relation() {
    let world = World::start().await;
    let host = world.pair("helmet-1").await;
    let people = [
        (Role::Technician, world.pair("helmet-2").await),
        (Role::Expert, world.login("expert2").await),
        (Role::Manager, world.login("manager").await),
        (Role::Administrator, world.login("admin").await),
        (Role::Archivist, world.pair("archivist").await),
    ];
    let mut walked = 0;
    for (role, person) in &people {
        for relation in RELATIONS {
            for verb in VERBS {
                let shell = matches!(verb, Verb::ManageAccounts | Verb::EnrolDevices);
                // An administrator stays outside; the archivist's queue is its list of open sessions, by contract.
                let apart = *role == Role::Administrator && relation != Relation::Outsider
                    || *role == Role::Archivist && verb == Verb::SeeQueue;
                if shell || apart {
                    continue;
                }
                let did = Cell { world: &world, host: &host, person, role: *role, relation, verb }.walk().await;
                assert_eq!(did, allowed(*role, verb, relation), "{role:?} {verb:?} {relation:?}");
                walked += 1;
            }
        }
    }
    // 15 verbs × (4 roles × 3 relations + 1), without the archivist's three queues.
    assert_eq!(walked, 15 * 13 - 3);
}

struct Cell<'a> {
    world: &'a World,
    host: &'a Person,
    person: &'a Person,
    role: Role,
    relation: Relation,
    verb: Verb,
}

impl Cell<'_> {
    /// Puts the person into place in a case of its own, does the act, and says whether it was let.
    async fn walk(&self) -> bool {
        let opens = self.relation == Relation::Member && allowed(self.role, Verb::OpenCase, Relation::Outsider);
        let case = self.world.case(if opens { self.person } else { self.host }).await;
        let session = SessionId(Uuid::new_v4());
        let mut host = self.host.connect().await;
        let mut technician = host.enter(case).await;
        // One case has one session: who is to call finds none.
        if self.verb != Verb::Call {
            let called = technician.bare(kind::SESSION_CALLED, Some(session));
            host.commit(&called).await.expect("the host calls");
        }
        let mut live = self.person.connect().await;
        live.say(&ClientMessage::OpenCase { case, after_seq: 0, lean: false }).await;
        let opened = live
            .until(|m| match m {
                ServerMessage::CaseOpened { me, role, .. } => Some(Some((*me, *role))),
                ServerMessage::Refused { .. } => Some(None),
                _ => None,
            })
            .await;
        let mut me = opened.map(|(me, role)| Author::new(case, me, role));
        if let Some(me) = &mut me {
            self.take_place(&mut live, me, session).await;
        }
        self.act(&mut live, me, case, session).await
    }

    async fn take_place(&self, live: &mut Live, me: &mut Author, session: SessionId) {
        if self.relation >= Relation::Joined {
            let joined = me.joined();
            live.commit(&joined).await.expect("joined");
        }
        let attends = allowed(self.role, Verb::Attend, Relation::Joined) && self.verb != Verb::Call;
        if self.relation == Relation::Member && attends {
            let entered = me.bare(kind::SESSION_JOINED, Some(session));
            live.commit(&entered).await.expect("entered the session");
        }
    }

    async fn act(&self, live: &mut Live, me: Option<Author>, case: CaseId, session: SessionId) -> bool {
        let event = match self.verb {
            Verb::ListCases => return self.person.get("/api/v1/cases").await.status() == StatusCode::OK,
            Verb::OpenCase => {
                let made = self.person.post("/api/v1/cases", json!({ "language": "en" })).await;
                return made.status() == StatusCode::CREATED;
            }
            Verb::SeeQueue => {
                live.settled().await;
                return live.seen.iter().any(|m| matches!(m, ServerMessage::Queue { .. }));
            }
            Verb::Read => return self.reads(case).await,
            Verb::Join => kind::JOINED,
            Verb::Write => kind::MESSAGE,
            Verb::Call => kind::SESSION_CALLED,
            Verb::Attend => kind::SESSION_JOINED,
            Verb::Consent => kind::CONSENT_CALL_ONLY,
            Verb::Mark => kind::INSTRUCTION,
            Verb::Acknowledge => kind::RECEIPT,
            Verb::EndSession => kind::SESSION_ENDED,
            Verb::Record => kind::GAP,
            Verb::Replay => kind::VIEWED,
            Verb::Export => kind::EXPORTED,
            Verb::ManageAccounts | Verb::EnrolDevices => unreachable!("not requests"),
        };
        let Some(mut me) = me else { return false };
        let event = if event == kind::JOINED { me.joined() } else { me.bare(event, Some(session)) };
        match live.commit(&event).await {
            Ok(_) => true,
            Err(e) => {
                assert_eq!(e.code, "forbidden", "{:?} {:?} {:?}", self.role, self.verb, self.relation);
                false
            }
        }
    }

    /// The bytes of the host's `joined` payload.
    async fn reads(&self, case: CaseId) -> bool {
        let mut host = self.host.connect().await;
        host.open_after(case, 0).await;
        host.caught_up().await;
        let digest = host.seen.iter().find_map(|m| match m {
            ServerMessage::Event { event, .. } => event.items.first().map(|i| i.digest),
            _ => None,
        });
        let path = format!("/api/v1/cases/{case}/items/{}", digest.expect("an item"));
        let response = self.person.get(&path).await;
        if response.status() == StatusCode::OK {
            return true;
        }
        let (_, error) = error_of(response).await;
        assert!(["forbidden", "no_such_case"].contains(&error.code.as_str()), "{}", error.code);
        false
    }
}
