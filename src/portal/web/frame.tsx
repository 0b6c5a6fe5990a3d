/** The frame around every page: navigation, who is signed in, and whether what is shown is live. */
import { useEffect } from 'preact/hooks';
import { api } from './api.ts';
import { AccountsPage } from './pages/accounts.tsx';
import { ClusterPage } from './pages/cluster.tsx';
import { ClustersPage } from './pages/clusters.tsx';
import { CreateClusterPage } from './pages/create-cluster.tsx';
import { GatewayPage } from './pages/gateway.tsx';
import { GatewaysPage } from './pages/gateways.tsx';
import { NewGatewayPage } from './pages/new-gateway.tsx';
import { ProfilePage } from './pages/profile.tsx';
import { ProfilesPage } from './pages/profiles.tsx';
import { SessionEnded } from './pages/sign-in.tsx';
import { TokensPage } from './pages/tokens.tsx';
import { UsersPage } from './pages/users.tsx';
import { Empty } from './parts/basics.tsx';
import { Icon, type IconName } from './parts/icons.tsx';
import { go, route } from './router.ts';
import { clusters, follow, gateways, isTenantAdmin, live, me, sessionEnded, theme } from './state.ts';

const NAVIGATION: { path: string; label: string; icon: IconName }[] = [
  { path: '/clusters', label: 'Clusters', icon: 'cluster' },
  { path: '/gateways', label: 'Gateways', icon: 'gateway' },
  { path: '/accounts', label: 'Cloud accounts', icon: 'account' },
  { path: '/profiles', label: 'Profiles', icon: 'profile' },
];
const TOKENS = { path: '/tokens', label: 'API tokens', icon: 'key' } as const;
const USERS = { path: '/users', label: 'Users', icon: 'users' } as const;

export function Frame() {
  useEffect(() => follow(undefined), []);
  const { path } = route.value;
  useEffect(() => {
    if (path === '/') go('/clusters', true);
  }, [path]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <div class="frame">
        <nav class="side" aria-label="Main">
          <a class="brand" href="/clusters">
            <img src="/icon.svg" alt="" width="28" height="28" />
            <span>
              PCG <small>portal</small>
            </span>
          </a>
          <ul>
            {[...NAVIGATION, ...(isTenantAdmin.value ? [USERS] : []), TOKENS].map((item) => (
              <li key={item.path}>
                <a href={item.path} aria-current={path.startsWith(item.path) ? 'page' : undefined}>
                  <Icon name={item.icon} />
                  <span>{item.label}</span>
                  <Count path={item.path} />
                </a>
              </li>
            ))}
          </ul>
          <div class="foot">
            <LiveMark />
            <Me />
          </div>
        </nav>
        <main id="main">
          <Page path={path} />
        </main>
      </div>
      {sessionEnded.value ? <SessionEnded /> : null}
    </>
  );
}

function Page({ path }: { path: string }) {
  const [, kind = '', id = '', rest] = path.split('/');
  if (rest !== undefined) return <NothingHere />;
  if (kind === '' || (kind === 'clusters' && id === '')) return <ClustersPage />;
  if (kind === 'clusters') return id === 'new' ? <CreateClusterPage /> : <ClusterPage key={id} id={id} />;
  if (kind === 'gateways' && id === '') return <GatewaysPage />;
  if (kind === 'gateways') return id === 'new' ? <NewGatewayPage /> : <GatewayPage key={id} id={id} />;
  if (kind === 'accounts' && id === '') return <AccountsPage />;
  if (kind === 'profiles') return id === '' ? <ProfilesPage /> : <ProfilePage key={id} id={id} />;
  if (kind === 'users' && id === '' && isTenantAdmin.value) return <UsersPage />;
  if (kind === 'tokens' && id === '') return <TokensPage />;
  return <NothingHere />;
}

function NothingHere() {
  return (
    <Empty icon="unknown" title="There is nothing at this address">
      <p>
        <a href="/clusters">Go to the clusters</a>
      </p>
    </Empty>
  );
}

function Count({ path }: { path: string }) {
  const list = path === '/clusters' ? clusters.value : path === '/gateways' ? gateways.value : undefined;
  return list && list.length > 0 ? <span class="count">{list.length}</span> : null;
}

function LiveMark() {
  const words = { connecting: 'Connecting', live: 'Live', away: 'Reconnecting: shown data may be old' };
  return (
    <p class={`live ${live.value}`} role="status">
      <span class="dot" aria-hidden="true" />
      {words[live.value]}
    </p>
  );
}

const THEMES = { system: 'light', light: 'dark', dark: 'system' } as const;
const THEME_ICONS = { system: 'auto', light: 'sun', dark: 'moon' } as const;

function Me() {
  const signOut = async () => {
    await api('DELETE', '/session').catch(() => {});
    me.value = null;
  };
  return (
    <div class="me">
      <span class="who" title={me.value?.email}>
        {me.value?.email}
        <small>{me.value?.role}</small>
      </span>
      <button
        type="button"
        class="button icon-only"
        aria-label={`Colours: ${theme.value}. Change`}
        title={`Colours: ${theme.value}`}
        onClick={() => {
          theme.value = THEMES[theme.value];
        }}
      >
        <Icon name={THEME_ICONS[theme.value]} />
      </button>
      <button type="button" class="button icon-only" aria-label="Sign out" title="Sign out" onClick={signOut}>
        <Icon name="leave" />
      </button>
    </div>
  );
}
