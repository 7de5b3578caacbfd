//! The policy table as people read it: docs/POLICY.md is written from the code and must be what the code says.
//!
//! `LOTSE_WRITE_DOCS=1 cargo test -p lotse-protocol --test policy` writes it anew.
#![allow(clippy::unwrap_used)]

use std::{fmt::Write as _, path::PathBuf};

use lotse_protocol::policy::{RELATIONS, ROLES, Relation, Role, VERBS, Verb, allowed};

fn page() -> String {
    let mut out = String::from(
        "# Who may do what\n\n\
         Written from `server/protocol/src/policy.rs` by a test that fails when this page is stale. Whatever is not listed is refused.\n\n\
         - **always**: also for a case one is not in, or where no case is concerned.\n\
         - **joined**: after one's own `joined` event in the case.\n\
         - **member**: after taking part in a session of the case, opening it, or giving a reason to view it.\n\
         - –: never.\n\n",
    );
    let people: Vec<Role> = ROLES.into_iter().filter(|r| !matches!(r, Role::Server | Role::Gateway)).collect();
    out.push_str("| Verb |");
    people.iter().for_each(|r| write!(out, " {} |", name(r)).unwrap());
    out.push_str("\n|---|");
    people.iter().for_each(|_| out.push_str("---|"));
    out.push('\n');
    for verb in VERBS {
        write!(out, "| {} |", name(&verb)).unwrap();
        for role in &people {
            write!(out, " {} |", least(*role, verb)).unwrap();
        }
        out.push('\n');
    }
    out.push_str(
        "\nThe server's own events (`opened`, `session.left`, `gateway.joined`, an automatic `session.ended`) come from no account. Gateways\n\
         (foreign clients with a token) commit nothing: their token is for one address of one case.\n",
    );
    out
}

fn least(role: Role, verb: Verb) -> &'static str {
    match RELATIONS.into_iter().find(|r| allowed(role, verb, *r)) {
        None => "–",
        Some(Relation::Outsider) => "always",
        Some(Relation::Joined) => "joined",
        Some(Relation::Member) => "member",
    }
}

fn name<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().replace('_', " ")
}

#[test]
fn the_page_says_what_the_table_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/POLICY.md");
    if std::env::var_os("LOTSE_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page(), "docs/POLICY.md is stale: LOTSE_WRITE_DOCS=1 cargo test -p lotse-protocol --test policy");
}

#[test]
fn what_an_outsider_may_a_member_may_too() {
    for role in ROLES {
        for verb in VERBS {
            let by_relation = RELATIONS.map(|r| allowed(role, verb, r));
            assert!(by_relation.is_sorted(), "{role:?} {verb:?} {by_relation:?}");
        }
    }
}

#[test]
fn lists_hold_every_role_and_verb_once() {
    // The matches are exhaustive: a new one does not compile until it is counted here, and then must be in its list.
    let roles = |r: &Role| match r {
        Role::Technician
        | Role::Expert
        | Role::Manager
        | Role::Administrator
        | Role::Archivist
        | Role::Gateway
        | Role::Server => 7,
    };
    assert!(ROLES.iter().all(|r| roles(r) == ROLES.len()));
    let mut names: Vec<String> = VERBS.iter().map(name).chain(ROLES.iter().map(name)).collect();
    let n = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), n);
}

#[test]
fn nobody_but_people_in_the_case_reads_it_and_no_administrator_ever() {
    for role in ROLES {
        for verb in [Verb::Read, Verb::Write, Verb::Replay, Verb::Export, Verb::Consent, Verb::Record] {
            assert!(!allowed(role, verb, Relation::Outsider), "{role:?} {verb:?}");
            assert!(role != Role::Administrator || !allowed(role, verb, Relation::Member), "{verb:?}");
        }
    }
    for nobody in [Role::Server, Role::Gateway] {
        assert!(VERBS.iter().all(|v| !allowed(nobody, *v, Relation::Member)));
    }
}
