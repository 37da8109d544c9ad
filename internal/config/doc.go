// Package config reads the configuration: HCL, in the words of a postmaster.
// Every value knows its file:line:column, all problems of a file are told in
// one run, and each says what to do. A file for each block.
package config
