/** Entry of the page: sign-in or the frame with the page that the address names. */
import { render } from 'preact';
import { useEffect } from 'preact/hooks';
import { Frame } from './frame.tsx';
import { SignIn } from './pages/sign-in.tsx';
import { Loading } from './parts/basics.tsx';
import { interceptLinks } from './router.ts';
import { loadMe, me } from './state.ts';
import './style.css';

function App() {
  useEffect(() => {
    void loadMe();
  }, []);
  if (me.value === undefined) return <Loading />;
  return me.value === null ? <SignIn /> : <Frame />;
}

interceptLinks();
const root = document.getElementById('app');
if (root) render(<App />, root);
