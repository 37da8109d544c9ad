package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"postern/internal/doctor"
	"postern/internal/problem"
	"postern/internal/resolve"
	"postern/internal/state"
	"postern/serve"
)

func doctorCommand() *cobra.Command {
	var p place
	var outgoing string
	foreign := map[string]*string{} // by reader: the folder of that server's configuration
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "look at this machine, or at another server's configuration, and say what to mend",
		Long: `Doctor looks at what a relay stands on: its ports and who holds them, gateways
and bridges, the resolver, names and addresses in the DNS, the clock, the disk,
the certificate. With --postfix it reads the configuration of a Postfix instead,
by Postfix's own rules, and says which forms of postern check would relay.

Exit code: 0 nothing to mend, 1 a problem, 2 a warning.`,
		Example: `  # this machine, with the configuration in /etc/postern
  postern doctor

  # the Postfix that runs here
  postern doctor --postfix /etc/postfix`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []doctor.Finding
			another := false
			for _, r := range doctor.Readers() {
				dir := *foreign[r.Name]
				if dir == "" {
					continue
				}
				another = true
				here, err := doctor.Here(dir)
				if err != nil {
					return &exit{code: exitIO, err: err}
				}
				found, err := r.Read(c.Context(), here)
				if err != nil {
					return &exit{code: exitIO, err: err}
				}
				list = append(list, found...)
			}
			if !another {
				settings, err := p.settings()
				if err != nil {
					return badConfig(c.ErrOrStderr(), err)
				}
				resolver, err := resolve.System()
				if err != nil {
					return unavailable(err, "")
				}
				machine, err := doctor.ThisMachine(resolver)
				if err != nil {
					return &exit{code: exitIO, err: err}
				}
				path, err := p.folder()
				if err != nil {
					return err
				}
				list = doctor.Run(c.Context(), patient(settings, path, outgoing), machine)
			}
			return printFindings(c, list, asJSON)
		},
	}
	for _, r := range doctor.Readers() {
		foreign[r.Name] = c.Flags().String(r.Name, "", fmt.Sprintf("read the configuration of %s in `FOLDER`, such as %s", r.Title, r.Usual))
	}
	c.Flags().StringVar(&outgoing, "outgoing", "", "also try to reach port 25 of `HOST`: some providers block it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
}

func printFindings(c *cobra.Command, list []doctor.Finding, asJSON bool) error {
	var err error
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(list)
	} else {
		err = doctor.WriteText(c.OutOrStdout(), list)
	}
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	switch doctor.Worst(list) {
	case doctor.Problem:
		return &exit{code: exitOpen}
	case doctor.Warning:
		return &exit{code: exitDoubtful}
	case doctor.OK, doctor.Note:
	}
	return nil
}

// patient is the relay as the doctor wants to know it.
func patient(s serve.Settings, dir, outgoing string) doctor.Server {
	d := doctor.Server{Hostname: s.Policy.Hostname, State: dir, Reserve: 256 << 20, ReservePercent: 10, Outgoing: outgoing}
	for _, l := range s.Listeners {
		d.Listeners = append(d.Listeners, doctor.Listener{Name: l.Name, Role: l.Role.String(), Addrs: l.Addrs})
	}
	d.Trusted = trustedNetworks(s)
	for _, o := range s.Policy.Domains {
		d.Domains = append(d.Domains, o.Name)
	}
	secret := func(path string) (at problem.Pos, ok bool) {
		for _, x := range s.Secrets {
			if x.File == path {
				return x.At, true
			}
		}
		return problem.Pos{File: s.File}, false
	}
	for _, path := range s.Files {
		at, is := secret(path)
		d.Files = append(d.Files, doctor.File{Path: path, At: at, Secret: is})
	}
	d.Reader, d.ReaderName = goesOnAs(dir, s.File == "")
	if s.TLS.File != "" {
		if pair, err := tls.LoadX509KeyPair(s.TLS.File, s.TLS.Key); err == nil {
			d.Certificate = &pair
		}
	}
	return d
}

// goesOnAs is the user whom a relay goes on as: to whom its state folder belongs,
// or who it would be at its first start.
func goesOnAs(dir string, local bool) (state.Reader, string) {
	id, ok := state.Owner(dir)
	if !ok {
		id = os.Geteuid()
	}
	who, err := user.LookupId(strconv.Itoa(id))
	var in shutIn
	if u, none := in.who(local); !ok && none == nil && u != nil {
		who, err = user.Lookup(u.Name)
	}
	r := state.Reader{User: id}
	if err != nil {
		return r, strconv.Itoa(id)
	}
	if n, err := strconv.Atoi(who.Uid); err == nil {
		r.User = n
	}
	groups, _ := who.GroupIds() // without them it is in none
	for _, g := range groups {
		if n, err := strconv.Atoi(g); err == nil {
			r.Groups = append(r.Groups, n)
		}
	}
	return r, who.Username
}

func trustedNetworks(s serve.Settings) []netip.Prefix {
	var list []netip.Prefix
	for _, t := range s.Policy.Trusted {
		for _, n := range t.Networks {
			list = append(list, n.Prefix)
		}
	}
	return list
}
