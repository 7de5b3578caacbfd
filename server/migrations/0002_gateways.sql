-- Tokens of foreign clients (WHIP, WHEP): one case, one way, a limited time.
create table gateways (
    id         text primary key,
    -- SHA-256 of the token.
    token      blob not null unique,
    case_id    text not null references cases (id),
    -- The same in each session of the case.
    pseudonym  text not null,
    -- "publish" or "watch".
    way        text not null,
    name       text not null,
    made_ms    integer not null,
    expires_ms integer not null,
    revoked_ms integer
);
