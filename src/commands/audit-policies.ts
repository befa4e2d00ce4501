import { writeAudit } from '../metadata/audit.js';
import type { PolicyObserver } from '../policies/changes.js';
import type { ShownPolicy } from '../policies/policies.js';

/** One row of the record for each change of a policy. */
export const auditPolicies: PolicyObserver = async ({ before, after }, actor, transaction) => {
  const verb = before === null ? 'create' : after === null ? 'delete' : 'update';
  await writeAudit(transaction, actor, {
    action: `policy.${verb}`,
    resourceType: 'policy',
    resourceId: (after ?? before)?.id ?? '',
    details: { before: before && describe(before), after: after && describe(after) },
  });
};

/** Field by field, as with keys. */
function describe({ pattern, untagged, retention, protected_tags, quota_bytes }: ShownPolicy): Record<string, unknown> {
  return { pattern, untagged, retention, protected_tags, quota_bytes };
}
