// The sections, in the order of RESULTS.md.
import artifacts from './artifacts.mjs';
import cluster from './cluster.mjs';
import life from './life.mjs';
import lists from './lists.mjs';
import oras from './oras.mjs';
import pull from './pull.mjs';
import push from './push.mjs';
import requests from './requests.mjs';
import rgw from './rgw.mjs';

export const sections = [push, pull, requests, artifacts, lists, oras, life, rgw, cluster];
