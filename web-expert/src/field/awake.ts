// Keeps the screen on while a call runs: a phone that darkens also stops its camera.

/** Until the returned function is called. */
export function stayAwake(): () => void {
  let lock: WakeLockSentinel | null = null;
  let wanted = true;
  const ask = async () => {
    if (!wanted || document.visibilityState !== 'visible' || !navigator.wakeLock) return;
    // Refused when the battery is low: the call goes on, the screen may darken.
    const got = await navigator.wakeLock.request('screen').catch(() => null);
    if (wanted) lock = got;
    else void got?.release();
  };
  // The browser takes the lock away whenever the page is hidden.
  const again = () => void ask();
  document.addEventListener('visibilitychange', again);
  void ask();
  return () => {
    wanted = false;
    document.removeEventListener('visibilitychange', again);
    void lock?.release().catch(() => {});
  };
}
