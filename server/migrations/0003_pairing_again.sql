-- The hash of the code that a device was paired with: its pairing may be asked for again while the answer may have been lost.
alter table devices add column code blob;
