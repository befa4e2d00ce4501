/** What a list is asked for, and one page of it, for the doors; how it is read is the database's. */
export type { Page, PageQuery } from '../database/pages.js';
