-- The log, what it names, and who may read it. Bytes of items are ciphertext throughout.

create table meta (
    name  text primary key,
    value text not null
);

create table accounts (
    id         text primary key,
    user       text not null unique,
    name       text not null,
    role       text not null,
    language   text not null,
    -- argon2id; null: this account cannot log in with a password (a technician who only has glasses).
    password   text,
    -- 1: the password is a printed demo password and counts on loopback only.
    demo       integer not null default 0,
    blocked_ms integer,
    made_ms    integer not null
);

-- Browser logins. Only a hash of the cookie is kept; `before` is the cookie it replaced, good for a minute more.
create table logins (
    cookie     blob primary key,
    before     blob,
    account    text not null references accounts (id),
    device_key blob,
    made_ms    integer not null,
    turned_ms  integer not null
);
create index logins_before on logins (before);

create table browser_keys (
    account  text not null references accounts (id),
    key      blob not null,
    first_ms integer not null,
    primary key (account, key)
);

create table devices (
    id         text primary key,
    account    text not null references accounts (id),
    -- Given by the administrator with the pairing code; one live device per name.
    name       text not null,
    -- What the device calls itself.
    label      text not null,
    public_key blob not null,
    paired_ms  integer not null,
    revoked_ms integer
);

create table pairing_codes (
    code       blob primary key,
    account    text not null references accounts (id),
    name       text not null,
    -- null: good until used (demo).
    expires_ms integer
);

create table cases (
    id           text primary key,
    number       text not null unique,
    -- Pseudonym, not account.
    opened_by    text not null,
    asset        text,
    customer     text,
    site         text,
    language     text not null,
    open         integer not null default 1,
    opened_at_ms integer not null,
    last_at_ms   integer not null,
    seq          integer not null,
    session      text,
    recorded     integer not null default 0,
    card_seq     integer
);
create index cases_newest on cases (opened_at_ms desc, id desc);

create table case_numbers (
    year integer primary key,
    last integer not null
);

-- Account behind a pseudonym. Deleting a row leaves the log intact and nameless.
create table pseudonyms (
    case_id   text not null references cases (id),
    account   text not null references accounts (id),
    pseudonym text not null,
    primary key (case_id, account),
    unique (case_id, pseudonym)
);
create index pseudonyms_account on pseudonyms (account);

create table events (
    case_id text not null references cases (id),
    seq     integer not null,
    id      text not null,
    kind    text not null,
    server  text not null,
    author  text not null,
    sig     blob not null,
    hash    blob not null,
    primary key (case_id, seq),
    unique (case_id, id)
);

-- Small sealed items that travelled with their event; larger ones are files named in `blobs`.
create table items (
    case_id text not null references cases (id),
    digest  blob not null,
    bytes   blob not null,
    primary key (case_id, digest)
);

create table blobs (
    case_id   text not null references cases (id),
    digest    blob not null,
    size      integer not null,
    stored_ms integer not null,
    primary key (case_id, digest)
);

-- Case keys under the organisation key, item keys under their case key. `wrap` null: destroyed, and stays so.
create table case_keys (
    case_id      text primary key references cases (id),
    wrap         blob,
    destroyed_ms integer
);
create table wraps (
    case_id      text not null references cases (id),
    digest       blob not null,
    wrap         blob,
    destroyed_ms integer,
    primary key (case_id, digest)
);

create table customers (
    id   text primary key,
    name text not null
);
create table sites (
    id       text primary key,
    customer text not null references customers (id),
    name     text not null,
    -- SitePolicy as JSON.
    policy   text not null
);
create table assets (
    id     text primary key,
    site   text not null references sites (id),
    name   text not null,
    serial text not null
);

-- The organisation's own chained log: administrative acts, and hourly the head of every case.
create table organisation_log (
    seq  integer primary key,
    body text not null,
    prev blob not null,
    hash blob not null,
    sig  blob not null
);
