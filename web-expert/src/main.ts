// Starts the page.

import { mount } from 'svelte';
import App from './App.svelte';
import { preload } from './pages';
import { apply } from './strings/index.svelte';
import './ui/tokens.css';
import { startRouting } from './ui/router.svelte';
import { followSystem } from './ui/theme.svelte';

preload(new URLSearchParams(location.search).get('next') ?? location.pathname);
apply();
followSystem();
startRouting();
mount(App, { target: document.getElementById('app')! });
