// Package remedy tells which software a server is and which lines close its
// hole. What it knows is text: a file for each software, a section for each
// hole, and a table of fingerprints. For every hole there is an answer, on
// every software; where the software's own file has none, a general one.
package remedy
