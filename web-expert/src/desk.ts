// The pages of experts, managers and administrators, loaded as one: a technician's phone never asks for them.

export { default as Case } from './cases/Case.svelte';
export { default as Cases } from './cases/Cases.svelte';
export { default as Live } from './live/Live.svelte';
