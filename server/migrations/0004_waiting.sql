-- A call that no expert has taken yet, for those who see the list and not the queue. The start that follows fills it in for sessions that are open.
alter table cases add column waiting integer not null default 0;
