/** What describes a cluster, and what every node of it gets. */
import { useSignal } from '@preact/signals';
import { ChangeDialog, type ChangeProps } from './change-dialog.tsx';
import { lines, words } from './draft.ts';
import { TextArea, TextField } from './fields.tsx';

export function DetailsDialog(props: ChangeProps) {
  const { spec } = props.cluster;
  const text = useSignal({
    description: spec.description,
    tags: spec.tags.join(', '),
    httpsProxy: spec.nodes.httpsProxy ?? '',
    httpProxy: spec.nodes.httpProxy ?? '',
    noProxy: spec.nodes.noProxy.join(', '),
    ntpServers: spec.nodes.ntpServers.join(', '),
    sshAuthorizedKeys: spec.nodes.sshAuthorizedKeys.join('\n'),
  });
  const set = (key: keyof typeof text.value) => (value: string) => {
    text.value = { ...text.value, [key]: value };
  };
  const wanted = () => {
    const { description, tags, httpsProxy, httpProxy, noProxy, ntpServers, sshAuthorizedKeys } = text.value;
    const { httpProxy: _http, httpsProxy: _https, ...nodes } = spec.nodes;
    return {
      ...spec,
      description,
      tags: words(tags),
      nodes: {
        ...nodes,
        ...(httpProxy === '' ? {} : { httpProxy }),
        ...(httpsProxy === '' ? {} : { httpsProxy }),
        noProxy: words(noProxy),
        ntpServers: words(ntpServers),
        sshAuthorizedKeys: lines(sshAuthorizedKeys),
      },
    };
  };
  return (
    <ChangeDialog {...props} wide title={`Details of ${spec.name}`} verb="Save" wanted={wanted}>
      {(errorOf) => (
        <>
          <div class="grid2">
            <TextField
              label="Description"
              value={text.value.description}
              error={errorOf('spec.description')}
              onInput={set('description')}
            />
            <TextField
              label="Tags"
              hint="Separated by commas"
              value={text.value.tags}
              error={errorOf('spec.tags')}
              onInput={set('tags')}
            />
          </div>
          <h3>Nodes</h3>
          <p class="sub">
            Machines get these when they are installed: a change replaces nodes, after you approve the plan.
          </p>
          <div class="grid2">
            <TextField
              label="HTTPS proxy"
              value={text.value.httpsProxy}
              error={errorOf('spec.nodes.httpsProxy')}
              onInput={set('httpsProxy')}
            />
            <TextField
              label="HTTP proxy"
              value={text.value.httpProxy}
              error={errorOf('spec.nodes.httpProxy')}
              onInput={set('httpProxy')}
            />
            <TextField
              label="Reached without proxy"
              hint="Hosts, domains and networks, separated by commas"
              value={text.value.noProxy}
              error={errorOf('spec.nodes.noProxy')}
              onInput={set('noProxy')}
            />
            <TextField
              label="NTP servers"
              hint="Separated by commas; empty: those of MAAS"
              value={text.value.ntpServers}
              error={errorOf('spec.nodes.ntpServers')}
              onInput={set('ntpServers')}
            />
          </div>
          <TextArea
            label="SSH public keys"
            hint="One a line; for people who repair machines"
            value={text.value.sshAuthorizedKeys}
            error={errorOf('spec.nodes.sshAuthorizedKeys')}
            onInput={set('sshAuthorizedKeys')}
          />
        </>
      )}
    </ChangeDialog>
  );
}
