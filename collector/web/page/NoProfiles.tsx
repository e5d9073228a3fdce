import { TextLink } from '@grafana/ui';
import * as React from 'react';
import { useHealth } from './HealthNotice';

/** Says why there may be no profiles, and what to do about it. */
export function NoProfiles() {
  const health = useHealth();
  return (
    <>
      <strong>No profiles match in this time range.</strong>
      <span>
        After the start it takes a few seconds until the first profiles are here. Otherwise choose a longer time range,
        fewer label filters or another profile type.
      </span>
      {health && <span>{health.message}</span>}
      <TextLink href="https://github.com/flameline/flameline#readme" external inline={false}>
        How profiles get into Flameline
      </TextLink>
    </>
  );
}
